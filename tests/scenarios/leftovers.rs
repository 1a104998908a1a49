//! Proves that nothing of a lease is left: no job, no process on any host, no file in any of our directories.

use std::time::Duration;

use super::process;
use super::site::{Lease, Place, Site};

/// Finds processes that carry the lease in their environment or arguments, and private directories that name it. The
/// words come on stdin, so that the search does not find itself.
const SEARCH: &str = r#"
read -r id
cd /proc
for pid in $(printf 'CBX_LEASE_ID=%s' "$id" | grep -lszxF -f - [0-9]*/environ) $(printf %s "$id" | grep -lsaF -f - [0-9]*/cmdline); do
  pid=${pid%/*}
  args=$(tr '\0' ' ' <"$pid/cmdline") 2>/dev/null && [ -n "$args" ] && echo "process on $HOSTNAME: $pid $args"
done
for file in /tmp/slurm-sandbox.*/* ; do
  [ -f "$file" ] && printf %s "$id" | grep -lsaF -f - -- "$file"
done
exit 0
"#;

/// The same on this machine, without starting anything: it may be full of other tests' processes.
fn search_here(id: &str) -> Vec<String> {
    let named = |bytes: &[u8]| bytes.windows(id.len()).any(|window| window == id.as_bytes());
    let variable = format!("CBX_LEASE_ID={id}");
    let entries = |path: &str| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut left = Vec::new();
    for path in entries("/proc") {
        let read = |name: &str| std::fs::read(path.join(name)).unwrap_or_default();
        let args = read("cmdline");
        let carries = |environ: &[u8]| environ.split(|byte| *byte == 0).any(|word| word == variable.as_bytes());
        if !args.is_empty() && (named(&args) || carries(&read("environ"))) {
            left.push(format!("process {}: {}", path.display(), String::from_utf8_lossy(&args).replace('\0', " ")));
        }
    }
    for path in entries("/tmp").filter(|path| path.to_string_lossy().starts_with("/tmp/slurm-sandbox.")) {
        for file in entries(&path.to_string_lossy()).filter(|file| file.is_file()) {
            if std::fs::read(&file).is_ok_and(|bytes| named(&bytes)) {
                left.push(file.to_string_lossy().into_owned());
            }
        }
    }
    left
}

impl Site {
    /// What is left of a lease, one line each.
    #[track_caller]
    pub fn leftovers(&self, lease: &Lease) -> Vec<String> {
        let mut left = self.live_jobs(lease);
        match &self.place {
            Place::Fake(_) => left.extend(search_here(&lease.id)),
            Place::Campus(campus) => {
                let mut hosts = vec!["login", "n1", "n2"];
                hosts.extend(campus.has_annex().then_some("a1"));
                hosts.extend(self.is_outside().then(|| campus.client()));
                for host in hosts {
                    let search = campus.shell(host, "root", &[], SEARCH);
                    let output = process::run(search, format!("{}\n", lease.id).into_bytes(), Duration::from_secs(30));
                    left.extend(output.ok().lines().map(str::to_owned));
                }
            }
        }
        let files = format!(
            "find {} -path '*{}*' -print; find {}/trash -mindepth 1 2>/dev/null; :",
            self.root,
            lease.id,
            self.state_dir()
        );
        left.extend(self.everywhere(&files).iter().flat_map(|found| found.lines()).map(str::to_owned));
        left
    }

    /// Fails when something is left; what the kernel has killed may take a moment to go.
    #[track_caller]
    pub fn nothing_left(&self, lease: &Lease) {
        let begun = std::time::Instant::now();
        loop {
            let left = self.leftovers(lease);
            if left.is_empty() {
                return;
            }
            let patience = if super::campus::fs_is_late() { 60 } else { 2 };
            assert!(begun.elapsed() < process::limit(patience), "left of {}:\n{}", lease.id, left.join("\n"));
            if super::campus::fs_is_late() {
                // What a release could not remove within its bound is cleanup's.
                self.ask("cleanup", serde_json::json!({}));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
