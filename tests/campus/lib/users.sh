# shellcheck shell=bash
# Owns the people of the site: their entries in passwd, their homes, keys and noisy start-up files. The machine's own
# user database is not touched: hosts see a copy.

FIRST_UID=5001
# More than a signed number of 32 bits holds: directory services give out such numbers, and squeue prints them negative.
HUGE_UID=3000000000

# uid_of USER: leaves it in REPLY.
uid_of() {
  local user
  REPLY=$FIRST_UID
  for user in "${ALL_USERS[@]}"; do [ "$user" != "$1" ] || break; REPLY=$((REPLY + 1)); done
  [ "$1" != hugo ] || REPLY=$HUGE_UID
}

shell_of() { case $1 in carol) echo /bin/csh ;; zoe) echo /usr/bin/zsh ;; *) echo /bin/bash ;; esac; }

write_user_files() {
  local user uid etc=$ROOT/etc last=$((FIRST_UID + ${#ALL_USERS[@]} - 1))
  suite_base "$SUITE"
  # Service accounts come from the hosts' system, since packages choose their numbers; people of the same name or number go.
  # shellcheck disable=SC2016
  local drop='BEGIN { n = split(names, a, " "); for (i in a) gone[a[i]] = 1 }
    $1 in gone || (byid && $3 >= lo && $3 <= hi) { next } { print }'
  awk -F: -v names="${ALL_USERS[*]}" -v byid=1 -v lo=$FIRST_UID -v hi=$last "$drop" "$BASE/etc/passwd" >"$etc/passwd"
  awk -F: -v names="${ALL_USERS[*]}" -v byid=1 -v lo=$FIRST_UID -v hi=$last "$drop" "$BASE/etc/group" >"$etc/group"
  awk -F: -v names="${ALL_USERS[*]}" -v byid=0 "$drop" "$BASE/etc/shadow" >"$etc/shadow"
  for user in "${ALL_USERS[@]}"; do
    uid_of "$user"
    uid=$REPLY
    echo "$user:x:$uid:$uid:$user:/home/$user:$(shell_of "$user")" >>"$etc/passwd"
    echo "$user:x:$uid:" >>"$etc/group"
    # Not '!': an sshd without PAM takes that for a locked account and refuses its keys.
    echo "$user:*:19000:0:99999:7:::" >>"$etc/shadow"
    make_home "$user" "$uid"
  done
  chgrp "$(awk -F: '$1 == "shadow" { print $3 }' "$etc/group")" "$etc/shadow"; chmod 640 "$etc/shadow"
  printf '%s\n' 'passwd: files' 'group: files' 'shadow: files' 'hosts: files' 'services: files' >"$etc/nsswitch.conf"
}

# service_ids NAME: uid:gid of a service on the hosts, which may be another's on this machine.
service_ids() { awk -F: -v name="$1" '$1 == name { print $3 ":" $4 }' "$ROOT/etc/passwd"; }

# The cached key KEY, made the first time.
cached_key() {
  local key=$CACHE/keys/$1
  [ -s "$key" ] || ssh-keygen -q -t ed25519 -N '' -C "$1" -f "$key" </dev/null || die "ssh-keygen failed"
}

make_home() {
  local user=$1 uid=$2 cluster=$ROOT/home/$1 laptop=$ROOT/laptop-home/$1
  mkdir -p "$cluster/.ssh" "$laptop/.ssh"
  cached_key "$user@laptop"
  cp "$CACHE/keys/$user@laptop" "$laptop/.ssh/id_ed25519"
  cp "$CACHE/keys/$user@laptop.pub" "$laptop/.ssh/id_ed25519.pub"
  cp "$CACHE/keys/$user@laptop.pub" "$cluster/.ssh/authorized_keys"
  local type key
  read -r type key _ <"$CACHE/keys/login.pub"
  echo "login,login.campus.test,$(wan_address login) $type $key" >"$laptop/.ssh/known_hosts"
  make_noise "$user" "$cluster"
  chown -R "$uid:$uid" "$cluster" "$laptop"
  chmod 700 "$cluster" "$laptop" "$cluster/.ssh" "$laptop/.ssh"
  chmod 600 "$laptop/.ssh/id_ed25519"
}

# Every start-up file that a shell may read says so on both streams: what such a user's commands print can not be
# parsed by trusting the first line.
make_noise() {
  local f file
  case $1 in
    carol) printf '%s\n' 'echo "noise: .cshrc of carol"' '/bin/sh -c "echo noise: .cshrc on stderr >&2"' \
             'setenv CAROL_CSHRC 1' >"$2/.cshrc" ;;
    zoe) for f in .zshenv .zshrc; do
           printf '%s\n' "echo 'noise: $f of zoe'" "echo 'noise: $f on stderr' >&2" >"$2/$f"
         done ;;
    dave) for f in .bashrc .bash_profile .profile; do
            printf '%s\n' "echo 'noise: $f of dave'" "echo 'noise: $f on stderr' >&2" >"$2/$f"
          done
          # shellcheck disable=SC2016
          echo '[ ! -f ~/.bashrc ] || . ~/.bashrc' >>"$2/.bash_profile" ;;
    *) for file in .bashrc .profile; do [ ! -f "$BASE/etc/skel/$file" ] || cp "$BASE/etc/skel/$file" "$2/"; done ;;
  esac
}
