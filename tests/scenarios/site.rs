//! A site as the scenarios see it: a login host with Slurm's commands, and a client on which the real binary runs as a user:
//! the same host, or a laptop that reaches the login host alone. Fake or campus behind it, the scenarios do not know.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::campus::Campus;
use super::fake::Fake;
pub use super::lease::{Lease, hex, job_of, now};
use super::process::{self, Output, Running, quoted};
use super::wire::{Refusal, Reply};

/// What a scenario needs of its site.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub accounting: bool,
    /// Who calls, on a campus.
    pub user: &'static str,
    /// The scenario breaks what others share.
    pub alone: bool,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { accounting: true, user: "alice", alone: false }
    }
}

/// Where the connections of a client's user lie.
pub const CONNECTIONS: &str = "/tmp/slurm-sandbox-$(id -u)";

/// Ends them, and forgets what became of the last ones.
const END_CONNECTIONS: &str = "for s in /tmp/slurm-sandbox-$(id -u)/* ~/.ssh/slurm-sandbox/*; do [ ! -S $s ] || ssh -O exit -S $s x; done 2>/dev/null; \
                               rm -rf /tmp/slurm-sandbox-$(id -u) ~/.ssh/slurm-sandbox";

/// How a scenario gets its site.
pub type Open = fn(Setup) -> Site;

#[derive(Debug)]
pub enum Place {
    Fake(Fake),
    Campus(Campus),
}

#[derive(Debug)]
pub struct Site {
    pub place: Place,
    /// Of this test alone, on the login host and, under the same name, on a client that is another; on the campus the login
    /// host's is also seen by the nodes.
    pub root: String,
    leases: Mutex<Vec<Lease>>,
    /// What every command on the client finds in its environment.
    env: Vec<(String, String)>,
    /// What goes into the config of every request.
    config: Mutex<Map<String, Value>>,
    /// Nobody else is this user now, so that its connections may be ended.
    alone: bool,
    /// Whether the admins of the login host have laid down a config file.
    admin: AtomicBool,
}

/// One start of the binary.
#[derive(Debug, Clone)]
pub struct Call {
    pub input: Vec<u8>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Shell lines before the binary takes the shell's place.
    pub before: String,
    /// Redirections after its arguments.
    pub after: String,
    pub limit: Duration,
}

impl Call {
    pub fn request(value: &Value) -> Call {
        Call::raw(format!("{value}\n").into_bytes())
    }

    pub fn raw(input: impl Into<Vec<u8>>) -> Call {
        Call {
            input: input.into(),
            args: vec![],
            env: vec![],
            before: String::new(),
            after: String::new(),
            limit: Duration::from_secs(90),
        }
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Call {
        self.env.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Call {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    #[must_use]
    pub fn before(mut self, script: &str) -> Call {
        self.before = script.to_owned();
        self
    }

    #[must_use]
    pub fn after(mut self, redirection: &str) -> Call {
        self.after = redirection.to_owned();
        self
    }
}

impl Site {
    pub fn fake(setup: Setup) -> Site {
        let fake = Fake::new(&setup);
        let root = fake.path().to_string_lossy().into_owned();
        Site::new(Place::Fake(fake), root)
    }

    #[track_caller]
    pub fn campus(setup: Setup) -> Site {
        Site::on(Campus::new(&setup, "login", false), setup)
    }

    /// A campus whose client is the laptop.
    #[track_caller]
    pub fn laptop(setup: Setup) -> Site {
        Site::on(Campus::new(&setup, "laptop", false), setup)
    }

    #[track_caller]
    fn on(campus: Campus, setup: Setup) -> Site {
        let root = format!("/home/{}/t-{}", setup.user, hex(6));
        let site = Site::new(Place::Campus(campus), root);
        site.everywhere(&format!("mkdir -p {}", site.root));
        site
    }

    fn new(place: Place, root: String) -> Site {
        Site {
            place,
            root,
            leases: Mutex::default(),
            env: Vec::new(),
            config: Mutex::default(),
            alone: false,
            admin: AtomicBool::new(false),
        }
    }

    /// The login host of the campus whose connections are broken.
    #[track_caller]
    pub fn campus_apart(setup: Setup) -> Site {
        Site::on(Campus::new(&setup, "login", true), setup)
    }

    /// A laptop of a campus without accounting, with connections of its own, which other tests neither use nor miss.
    #[track_caller]
    pub fn laptop_apart(setup: Setup) -> Site {
        let mut site = Site::on(Campus::new(&setup, "laptop", true), setup);
        site.alone = setup.alone;
        if site.alone {
            site.client(END_CONNECTIONS).ok();
        }
        site
    }

    /// Puts these into the config of every request from now on; null takes one out again.
    pub fn configure(&self, config: Value) {
        let Value::Object(config) = config else { panic!("a config is an object") };
        let mut own = self.config.lock().unwrap_or_else(|poison| poison.into_inner());
        own.extend(config);
        own.retain(|_, value| !value.is_null());
    }

    /// Whether the client is a host of its own, which has neither Slurm nor the login host's files.
    pub fn is_outside(&self) -> bool {
        self.client_host() != "login"
    }

    fn client_host(&self) -> &'static str {
        match &self.place {
            Place::Fake(_) => "login",
            Place::Campus(campus) => campus.client(),
        }
    }

    pub fn is_fake(&self) -> bool {
        matches!(self.place, Place::Fake(_))
    }

    /// Who calls.
    pub fn user(&self) -> String {
        match &self.place {
            Place::Fake(_) => super::fake::user(),
            Place::Campus(campus) => campus.user().to_owned(),
        }
    }

    pub fn state_dir(&self) -> String {
        format!("{}/state", self.root)
    }

    pub fn record_dir(&self, lease: &Lease) -> String {
        format!("{}/leases/{}", self.state_dir(), lease.id)
    }

    pub fn shared_dir(&self, lease: &Lease) -> String {
        format!("{}/shared/{}", self.state_dir(), lease.id)
    }

    /// A new identity, whose jobs end with the site.
    pub fn lease(&self, word: &str) -> Lease {
        self.adopt(Lease::new(word))
    }

    pub fn adopt(&self, lease: Lease) -> Lease {
        self.leases.lock().unwrap_or_else(|poison| poison.into_inner()).push(lease.clone());
        lease
    }

    // ------------------------------------------------------------ commands

    /// A shell script as the user on the login host.
    #[track_caller]
    pub fn shell(&self, script: &str) -> Output {
        self.shell_with(script, Vec::new(), Duration::from_secs(60))
    }

    #[track_caller]
    pub fn shell_with(&self, script: &str, input: Vec<u8>, limit: Duration) -> Output {
        process::run(self.command("login", &[], script), input, limit)
    }

    /// A shell script as the user on the client.
    #[track_caller]
    pub fn client(&self, script: &str) -> Output {
        self.client_with(script, Vec::new(), Duration::from_secs(60))
    }

    #[track_caller]
    pub fn client_with(&self, script: &str, input: Vec<u8>, limit: Duration) -> Output {
        process::run(self.command(self.client_host(), &[], script), input, limit)
    }

    /// The same on client and login host, once where they are one: what they print, which all must do without an error.
    #[track_caller]
    pub fn everywhere(&self, script: &str) -> Vec<String> {
        let mut hosts = vec!["login"];
        hosts.extend(self.is_outside().then(|| self.client_host()));
        let run = |host: &&str| process::run(self.command(host, &[], script), Vec::new(), Duration::from_secs(60));
        hosts.iter().map(|host| run(host).ok().to_owned()).collect()
    }

    /// The same on the client, left to run; it ends with the value.
    pub fn background(&self, script: &str) -> Running {
        process::start(self.command(self.client_host(), &[], script), Vec::new())
    }

    fn command(&self, host: &str, env: &[(String, String)], script: &str) -> Command {
        match &self.place {
            // Its admins' file lies in an /etc that only its own commands see.
            Place::Fake(fake) if self.admin.load(Ordering::SeqCst) => {
                let inside = format!("mount --bind {}/etc /etc && exec bash -c {}", self.root, quoted(script));
                fake.shell(env, &format!("exec unshare --mount --propagation private bash -c {}", quoted(&inside)))
            }
            Place::Fake(fake) => fake.shell(env, script),
            Place::Campus(campus) => {
                let own = if host == campus.client() { self.env.as_slice() } else { &[] };
                campus.shell(host, campus.user(), &[own, env].concat(), script)
            }
        }
    }

    /// Writes a file as the user: below the root on client and login host, elsewhere on the client.
    #[track_caller]
    pub fn write(&self, name: &str, text: &str) -> String {
        let inside = !name.starts_with('/');
        let path = if inside { format!("{}/{name}", self.root) } else { name.to_owned() };
        let script = format!("cat > {}", quoted(&path));
        self.client_with(&script, text.into(), Duration::from_secs(20)).ok();
        if inside && self.is_outside() {
            self.shell_with(&script, text.into(), Duration::from_secs(20)).ok();
        }
        path
    }

    /// Lays down the config file of the login host's admins, of this mode and owner; an empty text takes it away. Whether that can
    /// be done here: on a campus others meet it too, and on the fake it takes a root.
    #[must_use]
    #[track_caller]
    pub fn admin_file(&self, text: &str, mode: &str, owner: &str) -> bool {
        match &self.place {
            Place::Campus(campus) => {
                campus.admin_file("login", text, mode, owner);
                self.admin.store(!text.is_empty(), Ordering::SeqCst);
            }
            Place::Fake(_) if !nix::unistd::geteuid().is_root() => {
                super::say("SKIPPED: only root can lay down a config file of admins");
                return false;
            }
            Place::Fake(fake) => {
                let etc = format!("{}/etc", self.root);
                let file = format!("{etc}/slurm-sandbox/config.toml");
                let copy = format!("set -e; [ -d {etc} ] || cp -a /etc {etc}; rm -rf {etc}/slurm-sandbox");
                let lay =
                    format!("mkdir -m 755 {etc}/slurm-sandbox; cat >{file}; chown {owner} {file}; chmod {mode} {file}");
                let script = if text.is_empty() { copy } else { format!("{copy}; {lay}") };
                process::run(fake.shell(&[], &script), text.into(), Duration::from_secs(60)).ok();
                self.admin.store(true, Ordering::SeqCst);
            }
        }
        true
    }

    /// Where the binary is on the client.
    pub fn program(&self) -> &'static str {
        match &self.place {
            Place::Fake(_) => env!("CARGO_BIN_EXE_slurm-sandbox"),
            Place::Campus(_) => "/opt/slurm-sandbox/slurm-sandbox",
        }
    }

    /// Starts the binary, in a process group of its own.
    pub fn spawn(&self, call: Call) -> Running {
        let args: Vec<String> = call.args.iter().map(|arg| quoted(arg)).collect();
        let (before, after) = (&call.before, &call.after);
        let script = format!(
            "{before}\nexec {} --state-dir {} {} {after}",
            self.program(),
            quoted(&self.state_dir()),
            args.join(" ")
        );
        process::start(self.command(self.client_host(), &call.env, &script), call.input)
    }

    /// Runs the binary.
    #[track_caller]
    pub fn run(&self, call: Call) -> Output {
        let limit = call.limit;
        self.spawn(call).end(limit)
    }

    /// One protocol request as it is; the answer has kept the protocol's rules.
    #[track_caller]
    pub fn protocol(&self, request: &Value) -> Reply {
        let reply = Reply::read(&self.run(Call::request(request)));
        super::schemas::exchange(request, &reply.value);
        reply
    }

    /// The command line.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> Output {
        self.run(Call::raw("").args(args))
    }

    // ------------------------------------------------------------ requests

    /// A request with this site's config, over which `config` of the fields goes.
    pub fn request(&self, operation: &str, fields: Value) -> Value {
        let mut config = json!({"runnerWorkRoot": format!("{}/work", self.root), "acquireTimeoutSeconds": 60});
        if self.is_outside() {
            // The same place as a client on the login host has by itself, so that scenarios find it.
            config["submitHost"] = json!("login");
            config["sharedDir"] = json!(format!("{}/shared", self.state_dir()));
        }
        let own = self.config.lock().unwrap_or_else(|poison| poison.into_inner()).clone();
        config.as_object_mut().expect("an object").extend(own);
        let Value::Object(mut fields) = fields else { panic!("fields are an object") };
        if let Some(Value::Object(more)) = fields.remove("config") {
            config.as_object_mut().expect("an object").extend(more);
        }
        let mut request = Map::new();
        request.insert("protocolVersion".into(), 1.into());
        request.insert("operation".into(), operation.into());
        request.insert("config".into(), config);
        request.extend(fields);
        request.into()
    }

    #[track_caller]
    pub fn ask(&self, operation: &str, fields: Value) -> Reply {
        self.protocol(&self.request(operation, fields))
    }

    pub fn acquiring(&self, lease: &Lease, config: Value) -> Call {
        Call::request(&self.request("acquire", json!({"desired": lease.desired(), "config": config})))
    }

    #[track_caller]
    pub fn acquire(&self, lease: &Lease, config: Value) -> Reply {
        Reply::read(&self.run(self.acquiring(lease, config)))
    }

    /// Acquires a lease that must be handed out: its lease object.
    #[track_caller]
    pub fn acquired(&self, lease: &Lease, config: Value) -> Value {
        let answer = self.acquire(lease, config).lease().clone();
        for (field, wanted) in [("leaseId", &lease.id), ("slug", &lease.slug), ("name", &lease.name)] {
            assert_eq!(answer[field], *wanted, "{answer}");
        }
        answer
    }

    #[track_caller]
    pub fn resolve(&self, word: &str) -> Reply {
        self.ask("resolve", json!({"id": word}))
    }

    #[track_caller]
    pub fn release(&self, lease: &Lease) -> Reply {
        let once = || self.ask("release", json!({"lease": lease.desired(), "force": true}));
        let reply = once();
        // A slow file system may be too slow for one call; the answer says so, and to repeat it.
        let again = super::campus::fs_is_late() && reply.value["code"] == "releasing";
        if again { once() } else { reply }
    }

    #[track_caller]
    pub fn list(&self) -> Vec<Value> {
        self.ask("list", json!({})).rows().clone()
    }

    /// This lease's row, if it is listed.
    #[track_caller]
    pub fn row(&self, lease: &Lease) -> Option<Value> {
        self.list().into_iter().find(|row| row["leaseId"] == lease.id.as_str())
    }

    /// Releases a lease and checks that nothing of it is left.
    #[track_caller]
    pub fn release_cleanly(&self, lease: &Lease) {
        let reply = self.release(lease);
        reply.ok();
        assert!(reply.took < Duration::from_secs(20), "a release took {:?}", reply.took);
        self.nothing_left(lease);
    }

    /// A refusal that must name its lease, and its job where there is one.
    #[track_caller]
    pub fn refusal(&self, reply: &Reply, code: &str, lease: &Lease, job: Option<&str>) -> Refusal {
        let refusal = reply.refused(code);
        refusal.says(&[&lease.id]);
        if let Some(job) = job {
            refusal.says(&[&format!("job {job}")]);
        }
        refusal
    }

    // ------------------------------------------------------------ Slurm as the user sees it

    /// `id state` of the lease's jobs that are neither ended nor forgotten, in both clusters.
    #[track_caller]
    pub fn live_jobs(&self, lease: &Lease) -> Vec<String> {
        self.jobs(lease, "")
    }

    /// `id state` of every job of the lease that the controllers remember.
    #[track_caller]
    pub fn all_jobs(&self, lease: &Lease) -> Vec<String> {
        self.jobs(lease, "-t all")
    }

    fn jobs(&self, lease: &Lease, states: &str) -> Vec<String> {
        let name = lease.job_name();
        let one = format!("squeue -h {states} -n {name} -o '%A %T'");
        let annex = match &self.place {
            Place::Campus(campus) if !campus.has_annex() => String::new(),
            Place::Fake(_) if !self.shell("squeue -h -M annex").stderr.is_empty() => String::new(),
            _ => format!("; squeue -h -M annex {states} -n {name} -o '%A;annex %T' | grep -v ^CLUSTER || :"),
        };
        self.shell(&format!("set -e; {one}{annex}")).ok().lines().map(str::to_owned).collect()
    }

    /// Waits until the lease's one live job is in this state; its id.
    #[track_caller]
    pub fn job_in(&self, lease: &Lease, state: &str) -> String {
        process::until(&format!("{} {state}", lease.id), Duration::from_secs(20), || {
            let jobs = self.live_jobs(lease);
            jobs.first()
                .filter(|job| job.ends_with(&format!(" {state}")))
                .map(|job| job.split(' ').next().unwrap_or("").to_owned())
        })
    }

    pub fn leases(&self) -> Vec<Lease> {
        self.leases.lock().unwrap_or_else(|poison| poison.into_inner()).clone()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Place::Campus(campus) = &self.place {
            if self.admin.load(Ordering::SeqCst) {
                let mut command = campus.tool("admin");
                let _ = command.arg("login").stdin(std::process::Stdio::null()).status();
            }
            let names: Vec<_> = self.leases().iter().map(Lease::job_name).collect();
            let cancel = |options: &str| format!("scancel {options} --name={} 2>/dev/null;", names.join(","));
            let mut script = String::new();
            if !names.is_empty() {
                script += &cancel("");
                script += &if campus.has_annex() { cancel("-M annex") } else { String::new() };
            }
            // The jobs of spares, and of leases that have taken one, bear the names of their seats.
            script += &format!(
                "for s in {0}/state/shared/seats/cbx_*; do scancel --name=cbx-${{s##*cbx_}} 2>/dev/null; done; ",
                self.root
            );
            script += &format!("chmod -R u+rwx {0} 2>/dev/null; rm -rf {0}", self.root);
            // A failing test leaves without this; a second panic would hide its text.
            let end = |host: &str, script: &str| {
                let mut command = campus.shell(host, campus.user(), &[], script);
                let _ = command.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status();
            };
            end("login", &script);
            if campus.client() != "login" {
                let masters = if self.alone { END_CONNECTIONS } else { ":" };
                end(campus.client(), &format!("{masters}; chmod -R u+rwx {0} 2>/dev/null; rm -rf {0}", self.root));
            }
        }
    }
}
