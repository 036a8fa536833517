# SPDX-License-Identifier: GPL-2.0-or-later
# completion.bash - completion of txn for bash.

# at: -C and its directory, as it was typed
_txn_states() {
	txn "${at[@]}" snapshots 2>/dev/null | cut -d' ' -f1
	txn "${at[@]}" log 2>/dev/null | cut -d' ' -f1
	echo head staged
}

# Names in a directory of a state, below which the word goes on; what is quoted
# is left out.
_txn_paths() {
	local dir=''
	[[ $cur != */* ]] || dir=${cur%/*}/
	txn "${at[@]}" ls "$1:$dir" 2>/dev/null | sed -n \
		-e '/Z "/d' -e "s,^d[^Z]*Z ,$dir,;ta" -e "s,^[^Z]*Z ,$dir,p;d" \
		-e ':a;s,$,/,p'
}

_txn() {
	local cur=${COMP_WORDS[COMP_CWORD]} cmd='' state='' i nth=0 at=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-C)
			((i++))
			at=(-C "${COMP_WORDS[i]/#\~/$HOME}")
			;;
		-m | -n | -o | --at | --store) [ -z "$cmd" ] || ((i++)) ;;
		-*) ;;
		*)
			if [ -z "$cmd" ]; then
				cmd=${COMP_WORDS[i]}
			else
				[ $((nth++)) != 0 ] || state=${COMP_WORDS[i]}
			fi
			;;
		esac
	done
	local words='' dirs=''
	case $cmd in
	'') words="init mount umount status diff commit abort log snapshot
			snapshots tag delete restore rollback undo ls cat verify
			export rescue gc set sync eject -C --help --version" ;;
	init) dirs=y words='--store --relink --force --move --quiet --help' ;;
	verify) words='--repair --help' ;;
	mount) dirs=y words='-o --force --at --help' ;;
	umount | sync) dirs=y words='--help' ;;
	status | snapshots) words='--json --help' ;;
	diff)
		words='--json --help'
		[ $nth -gt 1 ] || words+=" $(_txn_states)"
		;;
	abort | undo) words='--force --help' ;;
	restore)
		words='--commit --force --skip-damaged --help'
		if [ $nth = 0 ]; then
			words+=" $(_txn_states)"
		elif [[ $cur != -* ]]; then
			mapfile -t COMPREPLY < <(_txn_paths "$state" |
				grep -F -- "$cur" | grep "^${cur//[][\\.*^\$]/\\&}")
			compopt -o filenames 2>/dev/null # spaces are quoted
			[[ ${COMPREPLY[0]-} != */ || ${#COMPREPLY[@]} != 1 ]] ||
				compopt -o nospace 2>/dev/null
			return
		fi
		;;
	rollback) words="--force --help $(_txn_states)" ;;
	delete | ls | cat) words="--help $(_txn_states)" ;;
	export)
		words='--help'
		if [ $nth = 0 ]; then words+=" $(_txn_states)"; else dirs=y; fi
		;;
	tag)
		words='--help'
		[ $nth = 0 ] || words=$(txn "${at[@]}" log 2>/dev/null | cut -d' ' -f1)
		;;
	set)
		words='keep.last keep.discarded push-maps plain'
		[ $nth = 0 ] || case $state in keep.*) words='' ;; *) words='on off' ;; esac
		;;
	eject) dirs=y words='--yes --force --help' ;;
	rescue) dirs=y words='--staged --help' ;;
	snapshot) words='-m --help' ;;
	commit) words='-m --help' ;;
	log) words='-n --json --help' ;;
	*) words='--help' ;;
	esac
	COMPREPLY=()
	if [[ ${COMP_WORDS[COMP_CWORD - 1]} == -C ]] ||
		[[ $dirs && $cur != -* ]]; then
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
	fi
	[ ${#COMPREPLY[@]} != 0 ] ||
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _txn txn
