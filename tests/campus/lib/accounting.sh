# shellcheck shell=bash
# Owns the accounting database: clusters, account, users and QOS are entered once, the result is cached and copied.

# Changing what enter_accounts does must change this number: the cache does not see it otherwise.
ACCOUNTS_EDITION=2

database_key() {
  local sum
  suite_base "$SUITE"
  sum=$( { echo "$ACCOUNTS_EDITION $ANNEX ${LAB_USERS[*]}"; in_base slurmdbd -V; in_base mariadbd --version; } 2>/dev/null | cksum)
  echo "db-${sum%% *}"
}

# place_database: before ctl starts its daemons; fails if the cache has none.
place_database() {
  local from; from=$CACHE/$(database_key)
  local to=$ROOT/hosts/ctl/spool/mysql
  [ ! -d "$to" ] || return 0
  [ -d "$from" ] || return 1
  cp -a --reflink=auto "$from" "$to" && chown -R "$(service_ids mysql)" "$to"
}

# make_database: fill an empty database through slurmdbd itself, stop it cleanly, cache the files.
make_database() {
  local dir=$ROOT/hosts/ctl/spool/mysql key log=$ROOT/hosts/ctl/log/database.log
  echo "campus: making the accounting database (once on this machine)" >&2
  install -d "$dir" && chown "$(service_ids mysql)" "$dir"
  in_host ctl setpriv --reuid mysql --regid mysql --clear-groups mariadb-install-db --no-defaults \
    --datadir=/var/spool/mysql --auth-root-authentication-method=normal --skip-test-db \
    --innodb-log-file-size=8M --innodb-autoextend-increment=1 >"$log" 2>&1 </dev/null || { tail "$log" >&2; die "mariadb-install-db failed"; }
  start_daemon ctl munged; start_daemon ctl mariadbd; start_daemon ctl slurmdbd
  enter_accounts >>"$log" 2>&1 </dev/null || { tail "$log" >&2; die "sacctmgr failed"; }
  stop_daemon ctl slurmdbd; stop_daemon ctl mariadbd
  key=$(database_key)
  rm -rf "$CACHE/$key.$$"
  cp -a "$dir" "$CACHE/$key.$$" || die "cannot fill the cache $CACHE"
  # Another campus may have been first.
  mv -T "$CACHE/$key.$$" "$CACHE/$key" 2>/dev/null || rm -rf "$CACHE/$key.$$"
}
enter_accounts() {
  local cluster users clusters=(campus)
  [ "$ANNEX" = no ] || clusters+=(annex)
  printf -v users '%s,' "${LAB_USERS[@]}"
  for cluster in "${clusters[@]}"; do in_host ctl sacctmgr -i add cluster "$cluster" || return; done
  in_host ctl sacctmgr -i add account lab Description=lab Organization=lab &&
    in_host ctl sacctmgr -i add user "${users%,}" account=lab &&
    in_host ctl sacctmgr -i add qos long
}
