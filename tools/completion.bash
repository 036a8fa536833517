# SPDX-License-Identifier: GPL-2.0-or-later
# completion.bash - completion of txn for bash.
_txn_states() {
	txn snapshots 2>/dev/null | cut -d' ' -f1
	txn log 2>/dev/null | cut -d' ' -f1
	echo head staged
}

_txn() {
	local cur=${COMP_WORDS[COMP_CWORD]} cmd='' i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-C) ((i++)) ;;
		-*) ;;
		*)
			cmd=${COMP_WORDS[i]}
			break
			;;
		esac
	done
	local words=''
	case $cmd in
	'') words="init mount umount status diff commit abort log snapshot
			snapshots tag delete restore rollback undo ls cat verify
			export rescue gc set sync eject -C --help --version" ;;
	init) words='--store --relink --force --move --quiet --help' ;;
	verify) words='--repair --help' ;;
	mount) words='-o --force --at --help' ;;
	status | diff | snapshots) words='--json --help' ;;
	abort | undo) words='--force --help' ;;
	restore) words="--commit --force --skip-damaged --help $(_txn_states)" ;;
	rollback) words="--force --help $(_txn_states)" ;;
	delete | ls | cat | export) words=$(_txn_states) ;;
	set) words='keep.last keep.discarded push-maps plain' ;;
	eject) words='--yes --help' ;;
	rescue) words='--staged --help' ;;
	snapshot) words='-m --help' ;;
	commit) words='-m --help' ;;
	log) words='-n --json --help' ;;
	*) words='--help' ;;
	esac
	COMPREPLY=()
	case $cmd in
	init | mount | umount | sync | eject | rescue)
		[[ $cur == -* ]] || mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		;;
	esac
	if [[ ${COMP_WORDS[COMP_CWORD - 1]} == -C ]]; then
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
	elif [ ${#COMPREPLY[@]} = 0 ]; then
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
	fi
}
complete -F _txn txn
