//! File systems that hang or are slow, and trees that are hard to remove: every call answers within its bounds, and a
//! release ends the job all the same.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::scenarios::process;
use crate::scenarios::site::{Call, Setup, Site, job_of};
use crate::scenarios::wire::Reply;

/// Opens of paths with this word never return.
const HUNG: &str = "/hung";

const HANGING: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
static void hang(const char *path) { while (path && strstr(path, "/hung")) pause(); }
#define MODE(flags) va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more)
#define OPEN(name) int name(const char *path, int flags, ...) { MODE(flags); hang(path); \
  return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name))(path, flags, mode); }
#define OPENAT(name) int name(int dir, const char *path, int flags, ...) { MODE(flags); hang(path); \
  return ((int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, #name))(dir, path, flags, mode); }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)
"#;

const SLOW: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
int unlinkat(int dir, const char *path, int flags) {
  usleep(2000);
  return ((int (*)(int, const char *, int))dlsym(RTLD_NEXT, "unlinkat"))(dir, path, flags);
}
"#;

impl Site {
    /// A library to be loaded before all others; none where there is no compiler.
    fn shim(&self, name: &str, source: &str) -> Option<String> {
        let path = self.write(&format!("{name}.c"), source);
        let library = format!("{}/{name}.so", self.root);
        let made = self.shell(&format!("cc -shared -fPIC -o {library} {path} -ldl"));
        if made.code != 0 {
            std::io::stderr().write_all(format!("skipped, no C compiler: {}\n", made.stderr).as_bytes()).unwrap();
            return None;
        }
        Some(library)
    }

    #[track_caller]
    fn with_shim(&self, library: &str, operation: &str, fields: Value) -> Reply {
        let mut call = Call::request(&self.request(operation, fields));
        call.env.push(("LD_PRELOAD".into(), library.into()));
        Reply::read(&self.run(call))
    }

    fn state_of(&self, job: &str) -> String {
        self.shell(&format!("squeue -h -t all -j {job} -o %T")).line().to_owned()
    }

    #[track_caller]
    fn asides(&self) -> String {
        self.shell(&format!("ls -A {}/shared | grep gone || :", self.state_dir())).stdout
    }
}

#[test]
fn every_call_answers_while_the_shared_dir_hangs() {
    let site = Site::fake(Setup::default());
    let Some(shim) = site.shim("hanging", HANGING) else { return };
    let config = json!({"sharedDir": format!("{}{HUNG}", site.root)});
    let [used, other] = [site.lease("used"), site.lease("other")];
    let job = job_of(&site.acquired(&used, config.clone()));
    site.acquired(&other, json!({}));
    let began = std::time::Instant::now();
    let touch = site.with_shim(&shim, "touch", json!({"lease": used.desired(), "state": "running"}));
    touch.refused("storage").says(&["does not answer", HUNG]);
    let resolve = site.with_shim(&shim, "resolve", json!({"id": used.id, "config": {"resolveWaitSeconds": 2}}));
    assert!(resolve.value.is_object());
    let rows = site.with_shim(&shim, "list", json!({}));
    assert_eq!(rows.rows().len(), 2);
    let cleanup = site.with_shim(&shim, "cleanup", json!({}));
    assert!(cleanup.ok()["message"].as_str().unwrap().contains("does not answer"), "{}", cleanup.value);
    let new = site.lease("new");
    let refused = site.with_shim(&shim, "acquire", json!({"desired": new.desired(), "config": config}));
    assert!(refused.value["error"].is_string(), "{}", refused.value);
    // The job is ended, but the lease is not gone: its permit may still be there.
    let release = site.with_shim(&shim, "release", json!({"lease": used.desired()}));
    assert!(release.value["error"].is_string(), "{}", release.value);
    assert!(release.took < Duration::from_secs(28), "{:?}", release.took);
    assert_ne!(site.state_of(&job), "RUNNING");
    site.shell(&format!("test -d {}", site.record_dir(&used))).ok();
    // Each waits some seconds for the file system; what a busy machine adds is not meant.
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
    for lease in [&used, &other, &new] {
        site.release(lease).ok();
        assert!(site.row(lease).is_none());
    }
    assert_eq!(site.shell(&format!("ls {}{HUNG}", site.root)).stdout.trim(), "format");
}

#[test]
fn a_slow_removal_holds_nobody_and_is_finished_later() {
    let site = Site::fake(Setup::default());
    let Some(shim) = site.shim("slow", SLOW) else { return };
    let [full, other] = [site.lease("full"), site.lease("other")];
    site.acquired(&full, json!({}));
    site.acquired(&other, json!({}));
    let attempt = site.shell(&format!("echo {}/*/", site.shared_dir(&full))).line().to_owned();
    // A minute's work at two milliseconds each.
    site.shell(&format!("cd {attempt} && mkdir many && cd many && seq 30000 | xargs touch")).ok();
    let release = site.with_shim(&shim, "release", json!({"lease": full.desired()}));
    release.ok();
    assert!(release.took < Duration::from_secs(20), "{:?}", release.took);
    assert!(site.row(&full).is_none() && !site.asides().is_empty());
    let list = site.with_shim(&shim, "list", json!({}));
    assert_eq!(list.rows().len(), 1);
    assert!(list.took < Duration::from_secs(20), "{:?}", list.took);
    site.ask("cleanup", json!({})).ok();
    assert_eq!(site.asides(), "");
    site.release_cleanly(&other);
}

/// The last lease of a shared dir is gone, so only the configuration names the place any more.
#[test]
fn a_cleanup_finishes_a_removal_where_no_lease_is_left() {
    let site = Site::fake(Setup::default());
    let Some(shim) = site.shim("slow", SLOW) else { return };
    let lease = site.lease("last");
    let shared = format!("{}/elsewhere", site.root);
    site.acquired(&lease, json!({"sharedDir": shared}));
    site.shell(&format!("cd {shared}/{}/*/ && mkdir many && cd many && seq 30000 | xargs touch", lease.id)).ok();
    site.with_shim(&shim, "release", json!({"lease": lease.desired()})).ok();
    assert!(site.row(&lease).is_none());
    let asides = || site.shell(&format!("ls -A {shared} | grep gone || :")).stdout;
    assert_ne!(asides(), "");
    site.ask("cleanup", json!({"config": {"sharedDir": shared}})).ok();
    assert_eq!(asides(), "");
}

#[test]
fn a_deep_tree_goes_with_its_lease() {
    let site = Site::fake(Setup::default());
    let lease = site.lease("deep");
    site.acquired(&lease, json!({}));
    let attempt = site.shell(&format!("echo {}/*/", site.shared_dir(&lease))).line().to_owned();
    // Names of 200 bytes: the path of the innermost is far longer than any path may be.
    let script = format!(
        "cd {attempt} && n=$(printf 'd%.0s' {{1..200}}) && for ((i = 0; i < 4000; i++)); do mkdir $n && cd -P ./$n || exit; done 2>/dev/null; : >f"
    );
    site.shell(&format!("bash -c {}", process::quoted(&script)));
    let release = site.release(&lease);
    release.ok();
    assert!(site.row(&lease).is_none());
    site.ask("cleanup", json!({})).ok();
    assert_eq!(site.asides(), "");
}
