# Completion of openconnect for bash: the program itself knows its options and their values.

_openconnect() {
    local -a answer
    local current=${COMP_WORDS[COMP_CWORD]} prefix
    COMPREPLY=()
    mapfile -t answer < <(COMP_CWORD=$COMP_CWORD "${COMP_WORDS[0]}" --autocomplete "${COMP_WORDS[@]:1}" 2>/dev/null)
    # bash makes `=` a word of its own, which is not what is completed.
    [[ $current == = ]] && current=
    prefix=${answer[2]-}
    case ${answer[0]-} in
    FILENAME | EXECUTABLE)
        local filter=${answer[1]-}
        [[ $filter == "''" ]] && filter=
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(
            shopt -s extglob
            # A folder may hold what is looked for.
            compgen -d -P "$prefix" -- "${current#"$prefix"}"
            compgen -f -X "$filter" -P "$prefix" -- "${current#"$prefix"}" |
                while IFS= read -r name; do
                    [[ -d ${name#"$prefix"} ]] && continue
                    [[ ${answer[0]} == EXECUTABLE && ! -x ${name#"$prefix"} ]] && continue
                    printf '%s\n' "$name"
                done
        )
        ;;
    HOSTNAME) mapfile -t COMPREPLY < <(compgen -A hostname -- "$current") ;;
    USERNAME) mapfile -t COMPREPLY < <(compgen -u -- "$current") ;;
    *) COMPREPLY=("${answer[@]}") ;;
    esac
}

complete -F _openconnect openconnect
