# SPDX-License-Identifier: GPL-2.0-or-later
# completion.bash - completion of txn for bash.
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
	'') words='init mount umount status diff commit abort log -C --help --version' ;;
	init) words='--force --quiet --help' ;;
	mount) words='-o --force --help' ;;
	status | diff) words='--json --help' ;;
	commit) words='-m --help' ;;
	log) words='-n --json --help' ;;
	*) words='--help' ;;
	esac
	COMPREPLY=()
	case $cmd in
	init | mount | umount)
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
