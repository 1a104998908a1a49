//! One session on a login host: a shell that stays, and takes scripts one after the other.
//!
//! The login shell of the account is asked for one line that every shell understands, which starts bash as a login
//! shell, so that modules put Slurm on PATH; that one hands over to a bash of no profile with the allowed variables
//! alone. What profiles print, or read from a standard input, does not matter: our frames carry a random mark, and the
//! profiles' input is empty. A frame that does not come, or not whole, means *could not ask*.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openssh::{Child, ChildStderr, ChildStdin, ChildStdout, Session, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use crate::config::layers::{ADMIN_FILE, MAX_BYTES};
use crate::files::random_hex;
use crate::host::User;
use crate::host::command::{End, OUTPUT_BYTES, Output, PASSED_ON, PASSED_ON_PREFIXES, TOKEN, quoted};

/// The far end.
const FAR_END: &str = include_str!("shell.sh");

/// What a login shell's profiles may take before the first answer; module systems take seconds.
const GREETING_PATIENCE: Duration = Duration::from_secs(12);

/// Empty lines before the first that counts, for start-up files that read from their standard input.
const LINES_TO_SPARE: usize = 16;

/// What an answer may take longer than its command: the way there and back.
const WAY: Duration = Duration::from_secs(3);

/// Why an answer did not come; what was asked may have been done.
#[derive(Debug, Clone)]
pub enum Lost {
    /// The session ended.
    Ended(String),
    /// Nothing came in time.
    Silent(String),
    /// What came is no answer.
    Garbled(String),
}

/// Who answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    pub user: User,
    pub hostname: String,
    /// Seconds since the epoch there.
    pub time: i64,
    /// The config file of its admins, where it has one.
    pub admin_file: Option<SeenFile>,
}

/// A file of the login host, and what tells whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenFile {
    /// What stat says of its directory: owner, mode and kind.
    pub directory: String,
    pub file: String,
    /// Nothing where it cannot be read.
    pub text: Option<String>,
}

/// A session. Fields end in this order: the runtime last.
#[derive(Debug)]
pub struct Shell {
    stdin: ChildStdin,
    stdout: Stream<ChildStdout>,
    stderr: Stream<ChildStderr>,
    _child: Child<Arc<Session>>,
    mark: String,
    number: u64,
    /// The far end's program, until the first request is sent.
    program: Option<Vec<u8>>,
    greeting: Option<Greeting>,
    runtime: Runtime,
}

impl Shell {
    /// Opens a session through a master; no answer of the far end is waited for, only that of the login host's sshd.
    pub fn open(runtime: Runtime, session: Session, patience: Duration) -> Result<Shell, openssh::Error> {
        let mark = random_hex(16).map_err(openssh::Error::Master)?;
        let program = first_script(&mark).into_bytes();
        let lead_in = format!("{}{mark}\n", "\n".repeat(LINES_TO_SPARE));
        let mut child = runtime.block_on(async {
            let mut command = Arc::new(session).arc_raw_command(opening(&mark, program.len()));
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let late = |_| openssh::Error::Master(io::ErrorKind::TimedOut.into());
            tokio::time::timeout(patience, command.spawn()).await.map_err(late)?
        })?;
        let (stdin, stdout, stderr) = (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(openssh::Error::Disconnected);
        };
        let (stdout, stderr) = (Stream::new(stdout, &mark), Stream::new(stderr, &mark));
        Ok(Shell {
            stdin,
            stdout,
            stderr,
            _child: child,
            mark,
            number: 0,
            program: Some([lead_in.as_bytes(), &program].concat()),
            greeting: None,
            runtime,
        })
    }

    /// Who answered; known after the first answer.
    pub fn greeting(&self) -> Option<&Greeting> {
        self.greeting.as_ref()
    }

    /// Whether the session has not ended while nothing was asked.
    pub fn is_open(&mut self) -> bool {
        let stdout = &mut self.stdout;
        // What a stream that has ended tells at once.
        const AT_ONCE: Duration = Duration::from_millis(1);
        let ended = self.runtime.block_on(async { tokio::time::timeout(AT_ONCE, stdout.more()).await });
        !matches!(ended, Ok(Err(_)))
    }

    /// Runs a script there. `deadline` is the script's own affair; it is waited for a little longer, but no longer than
    /// `most`.
    pub fn run(&mut self, script: &str, input: &[u8], deadline: Duration, most: Duration) -> Result<Output, Lost> {
        self.number += 1;
        let mut request = self.program.take().unwrap_or_default();
        request.extend_from_slice(format!("{} {} {}\n", self.number, script.len(), input.len()).as_bytes());
        request.extend_from_slice(script.as_bytes());
        request.extend_from_slice(input);
        let started = Instant::now();
        let frame = format!("\n{} {} ", self.mark, self.number);
        let new = self.greeting.is_none();
        let patience = deadline + WAY + if new { GREETING_PATIENCE } else { Duration::ZERO };
        let patience = patience.min(most);
        let hello = format!("\n{} hello ", self.mark);
        let (stdin, stdout, stderr) = (&mut self.stdin, &mut self.stdout, &mut self.stderr);
        let answer = async {
            let write = async { stdin.write_all(&request).await.map_err(|error| Lost::Ended(error.to_string())) };
            let read = async {
                if new {
                    // Start-up files that hang are not given the time of a long command.
                    let greeted = tokio::time::timeout(GREETING_PATIENCE + WAY, stdout.await_text(&hello)).await;
                    greeted.unwrap_or_else(|_| {
                        let seconds = (GREETING_PATIENCE + WAY).as_secs();
                        Err(Lost::Silent(format!("its login shell was not ready within {seconds} s{}", stdout.said())))
                    })?;
                }
                stdout.frame(&frame).await
            };
            tokio::try_join!(write, read, stderr.frame(&frame))
        };
        let answer = self.runtime.block_on(async { tokio::time::timeout(patience, answer).await });
        let ((), out, err) = match answer {
            Ok(answer) => answer?,
            Err(_) => {
                return Err(Lost::Silent(format!("no answer within {} s{}", patience.as_secs(), self.stdout.said())));
            }
        };
        if self.greeting.is_none() {
            self.greeting = greeting(&out.before, &self.mark);
        }
        let code = out.status.parse().map_err(|_| Lost::Garbled("an answer without its exit code".to_owned()))?;
        let took = started.elapsed();
        // Our own deadline is kept there by timeout(1), which tells it so.
        let end = if matches!(code, 124 | 137) && took >= deadline { End::DeadlinePassed } else { End::Exit(code) };
        Ok(Output { end, stdout: out.text, stderr: err.text, took })
    }
}

/// The one line for the account's own shell, whichever that is: csh, zsh and fish read it alike. What that shell's own files
/// have left of the lead-in is skipped; then standard input goes to 8, out of the way of profiles that read. Start-up files
/// may set PATH to anything, and begin in the home directory, so nothing is looked up by it unfiltered.
fn opening(mark: &str, program: usize) -> String {
    let paths = search_path();
    format!(
        "exec /bin/sh -c 'while read -r line; do case $line in {mark}) break ;; esac; done; exec 8<&0 </dev/null; {paths}; \
         exec bash -lc \"builtin read -r -t {seconds} -N {program} -u 8 slurm_sandbox; eval \\\"\\$slurm_sandbox\\\"\"'",
        seconds = GREETING_PATIENCE.as_secs()
    )
}

/// Takes out of PATH what [`absolute_entries`] leaves out of a list.
fn search_path() -> String {
    format!("{}; PATH=${{PATH:-/usr/bin:/bin}}", absolute_entries("PATH"))
}

/// For any shell of POSIX, on one line and without `!`, which csh would take for its own: leaves the absolute entries of a list
/// of directories. A relative or empty one is the working directory, or below it, where sandboxed code may have put a program.
fn absolute_entries(variable: &str) -> String {
    format!(
        "left=${{{variable}-}}: kept=; while [ -n \"$left\" ]; do \
         case $left in /*) kept=$kept:${{left%%:*}} ;; esac; left=${{left#*:}}; done; {variable}=${{kept#:}}"
    )
}

/// A command line for the account's own shell that runs `line` like everything here, between the session's own standard
/// streams: what profiles print goes to stderr, and they read nothing. One line of no newline and no `!`, for csh.
pub fn piped(line: &str) -> String {
    let script = format!("{} {line} <&8 >&9 8<&- 9>&-", in_allowed_environment());
    let paths = search_path();
    let shell = format!("exec 8<&0 9>&1 </dev/null >&2; {paths}; exec bash -lc {}", quoted(&script));
    format!("exec /bin/sh -c {}", quoted(&shell))
}

/// The beginning of a bash script that becomes a command with the allowed variables alone; on one line and without `!`,
/// which csh would take for its own. Values, of which one is a token, stay out of the arguments, which everybody can read. `exec`
/// passes by functions and aliases of the user's.
fn in_allowed_environment() -> String {
    let prefixes = PASSED_ON_PREFIXES.iter().map(|prefix| format!("{prefix}*"));
    let names = PASSED_ON.iter().chain([&TOKEN]).filter(|name| **name != "BASH_ENV").map(|name| (*name).to_owned());
    let names = names.chain(prefixes).collect::<Vec<_>>().join(" | ");
    let paths = format!("{}; {}", search_path(), absolute_entries("LD_LIBRARY_PATH"));
    format!(
        "unset IFS; cd /; {paths}; drop=(); while IFS= read -r -d \"\" entry; do case ${{entry%%=*}} in {names}) ;; *) drop+=(-u \"${{entry%%=*}}\") ;; esac; \
         done < <(exec env -0); exec env \"${{drop[@]}}\""
    )
}

/// What the login shell runs: it takes the allowed variables along and nothing else of what profiles have set.
fn first_script(mark: &str) -> String {
    format!(
        "{} bash --noprofile --norc -c {} slurm-sandbox {mark} \"${{BASH_ENV-}}\" {ADMIN_FILE} {MAX_BYTES}\n",
        in_allowed_environment(),
        quoted(FAR_END)
    )
}

fn greeting(noise: &[u8], mark: &str) -> Option<Greeting> {
    let text = String::from_utf8_lossy(noise);
    let line = text.lines().find_map(|line| line.strip_prefix(mark)?.strip_prefix(" hello "))?;
    let (numbers, hostname_home) = line.split_once('\t')?;
    let (hostname, home) = hostname_home.split_once('\t')?;
    let mut words = numbers.splitn(3, ' ');
    let (uid, time, name) = (words.next()?, words.next()?, words.next()?);
    let name = Some(name.to_owned()).filter(|name| crate::config::value::is_user_name(name));
    let home = Some(home.to_owned()).filter(|home| crate::config::value::is_safe_path(home));
    let user = User { uid: uid.parse().ok()?, name, home };
    let admin_file = text.lines().find_map(|line| line.strip_prefix(mark)?.strip_prefix(" file ")).and_then(seen_file);
    Some(Greeting { user, hostname: hostname.to_owned(), time: time.parse().ok()?, admin_file })
}

/// Reads a file that came on one line: whether it could be read, what stat said of its directory and of itself, its text.
fn seen_file(line: &str) -> Option<SeenFile> {
    const LINE_END: char = '\u{1e}';
    let mut parts = line.splitn(4, LINE_END);
    let (read, directory, file, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let text = (read == "whole").then(|| text.replace(LINE_END, "\n"));
    Some(SeenFile { directory: directory.to_owned(), file: file.to_owned(), text })
}

/// Begins what stands behind the last mark of a frame.
const ENDED: &str = "ended";

/// One frame of a stream.
#[derive(Debug)]
struct Frame {
    before: Vec<u8>,
    text: Vec<u8>,
    /// What stands behind the frame's last mark.
    status: String,
}

/// A stream with frames among whatever else comes.
#[derive(Debug)]
struct Stream<R> {
    reader: R,
    mark: String,
    buffer: Vec<u8>,
    /// So much of the buffer was searched for the end of a frame; a long listing comes in many pieces.
    searched: usize,
}

impl<R: AsyncRead + Unpin> Stream<R> {
    fn new(reader: R, mark: &str) -> Stream<R> {
        Stream { reader, mark: mark.to_owned(), buffer: Vec::new(), searched: 0 }
    }

    /// Reads to the end of the frame whose marks begin with `mark`.
    async fn frame(&mut self, mark: &str) -> Result<Frame, Lost> {
        let ends = format!("{mark}{ENDED}");
        loop {
            let from = self.searched.saturating_sub(ends.len());
            if find(&self.buffer[from..], ends.as_bytes()).is_some() {
                if let Some((frame, length)) = cut(&self.buffer, mark) {
                    self.buffer.drain(..length);
                    self.searched = 0;
                    return Ok(frame);
                }
            } else {
                self.searched = self.buffer.len();
            }
            self.more().await?;
        }
    }

    /// Reads until `text` has come, and keeps it.
    async fn await_text(&mut self, text: &str) -> Result<(), Lost> {
        while find(&self.buffer, text.as_bytes()).is_none() {
            self.more().await?;
        }
        Ok(())
    }

    async fn more(&mut self) -> Result<(), Lost> {
        if self.buffer.len() > OUTPUT_BYTES {
            return Err(Lost::Garbled(format!("more than {OUTPUT_BYTES} bytes of output")));
        }
        match self.reader.read_buf(&mut self.buffer).await {
            Ok(0) => Err(Lost::Ended(format!("the session ended{}", self.said()))),
            Ok(_) => Ok(()),
            Err(error) => Err(Lost::Ended(error.to_string())),
        }
    }

    /// What came instead of an answer, for a message.
    fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.buffer);
        let foreign: Vec<_> = text.lines().filter(|line| !line.starts_with(&self.mark)).collect();
        let text = crate::failure::one_line(&foreign.join("\n"));
        let text: String = text.chars().take(200).collect();
        if text.is_empty() { text } else { format!(", after saying: {text}") }
    }
}

/// The first whole frame in what has come so far, and where it ends.
fn cut(buffer: &[u8], mark: &str) -> Option<(Frame, usize)> {
    let begins = format!("{mark}begins\n");
    let start = find(buffer, begins.as_bytes())?;
    let text = start + begins.len();
    let ends = format!("{mark}{ENDED}");
    let end = text + find(&buffer[text..], ends.as_bytes())?;
    let status = end + ends.len();
    let line = status + buffer[status..].iter().position(|byte| *byte == b'\n')?;
    let frame = Frame {
        before: buffer[..start].to_vec(),
        text: buffer[text..end].to_vec(),
        status: String::from_utf8_lossy(&buffer[status..line]).trim().to_owned(),
    };
    Some((frame, line + 1))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests play the account's owner and the sandboxed code")]
mod tests {
    use super::*;
    use crate::host::Command;
    use rstest::rstest;

    #[test]
    fn a_frame_is_found_among_noise_and_only_when_it_is_whole() {
        let text = b"Welcome 42\n\nm 1 begins\nrow\n\nm 1 ended 3\nbye";
        let (frame, length) = cut(text, "\nm 1 ").unwrap();
        assert_eq!((frame.text.as_slice(), frame.status.as_str()), (b"row\n".as_slice(), "3"));
        assert_eq!(&text[length..], b"bye");
        for end in 0..length {
            assert!(cut(&text[..end], "\nm 1 ").is_none());
        }
        assert!(cut(text, "\nm 2 ").is_none());
    }

    #[rstest]
    #[case(".:/usr/bin", "/usr/bin")]
    #[case("/usr/bin:", "/usr/bin")]
    #[case(":/usr/bin::/bin:", "/usr/bin:/bin")]
    #[case("bin:/a b/*:~/bin", "/a b/*")]
    #[case("", "/usr/bin:/bin")]
    #[case(".", "/usr/bin:/bin")]
    fn only_absolute_entries_stay(#[case] path: &str, #[case] expected: &str) {
        for shell in ["/bin/sh", "/bin/bash"] {
            let script = format!("PATH={}; set -eu; {}; echo \"$PATH\"", quoted(path), search_path());
            let output = Command::new(shell, Duration::from_secs(10)).args(["-c", &script]).run().unwrap();
            assert_eq!(output.stdout_text().trim_end(), expected, "{shell}");
        }
    }

    /// The whole way of a first request, with the account's own files in `home`.
    fn first_answer(home: &std::path::Path, profile: &str, script: &str) -> String {
        let mark = "0123abcd";
        std::fs::write(home.join(".bash_profile"), profile).unwrap();
        let program = first_script(mark);
        let input = format!("\n{mark}\n{program}1 {} 0\n{script}", script.len());
        let open = format!("cd {}; {}", quoted(&home.to_string_lossy()), opening(mark, program.len()));
        let command = Command::new("/bin/sh", Duration::from_secs(20)).args(["-c", &open]);
        let output = command.env("HOME", home).input(input.into_bytes()).run().unwrap();
        let (frame, _) = cut(&output.stdout, &format!("\n{mark} 1 ")).unwrap_or_else(|| panic!("{output:?}"));
        String::from_utf8(frame.text).unwrap()
    }

    /// A length counts bytes, whatever the locale; scripts come by other ways when they are long.
    #[rstest]
    #[case::short(100)]
    #[case::as_long_as_bash_reads(1000)]
    #[case::long(5000)]
    fn a_script_comes_whole(#[case] letters: usize) {
        let temp = tempfile::tempdir().unwrap();
        let text = "\u{e9}\\\t\n".repeat(letters / 4);
        let script = format!("printf %s {}", quoted(&text));
        let answer = first_answer(temp.path(), "export LC_ALL=C.UTF-8\n", &script);
        assert_eq!(answer, text);
    }

    #[test]
    fn nothing_of_the_working_directory_runs() {
        let temp = tempfile::tempdir().unwrap();
        for name in ["bash", "env", "head", "id", "cat", "timeout"] {
            let path = temp.path().join(name);
            std::fs::write(&path, "#!/bin/sh\necho >ran\n").unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let profile =
            "PATH=.:bin::$PATH; export LD_LIBRARY_PATH=:lib:/opt/lib BASH_ENV=x; readonly TMOUT=1; export TMOUT\n";
        let script = format!(
            "pwd; cd {}; id -u >/dev/null; echo \"$LD_LIBRARY_PATH ${{BASH_ENV-none}}\"",
            temp.path().display()
        );
        assert_eq!(first_answer(temp.path(), profile, &script), "/\n/opt/lib none\n");
        assert!(!temp.path().join("ran").exists());
    }

    #[test]
    fn a_greeting_tells_who_answered() {
        let noise = b"motd\n\nm hello 1001 1795308136 alice\tlogin1\t/home/alice\n";
        let user = User { uid: 1001, name: Some("alice".into()), home: Some("/home/alice".into()) };
        let hostname = || "login1".to_owned();
        let without = Greeting { user, hostname: hostname(), time: 1795308136, admin_file: None };
        assert_eq!(greeting(noise, "m"), Some(without.clone()));
        assert_eq!(greeting(b"motd\n", "m"), None);
        for (read, text) in [("whole", Some("a = 1\n\nb\n".to_owned())), ("not", None)] {
            let line = format!("\nm file {read}\x1e0 755 directory\x1e0 644 regular file\x1ea = 1\x1e\x1eb\x1e\n");
            let (directory, file) = ("0 755 directory".to_owned(), "0 644 regular file".to_owned());
            let with = Greeting { admin_file: Some(SeenFile { directory, file, text }), ..without.clone() };
            assert_eq!(greeting(&[line.as_bytes(), noise].concat(), "m"), Some(with));
        }
    }

    /// The far end's own way of telling a file, tried on one of this machine.
    #[test]
    fn an_admins_file_comes_with_the_greeting() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("config.toml");
        let tell = |most: u64| {
            let words = ["-c", FAR_END, "slurm-sandbox", "m", "", &path.to_string_lossy(), &most.to_string()];
            let output = Command::new("bash", Duration::from_secs(20)).args(words).run().unwrap();
            greeting(&output.stdout, "m").unwrap().admin_file
        };
        assert_eq!(tell(99), None);
        let text = "# \u{e9}\n[defaults]\r\n\tpreamble = '''a \\ b %s $(x)'''\n\n";
        std::fs::write(&path, text).unwrap();
        let seen = tell(99).unwrap();
        assert_eq!(seen.text.as_deref(), Some(text));
        assert!(seen.directory.ends_with("directory") && seen.file.ends_with("regular file"), "{seen:?}");
        assert_eq!(tell(20).unwrap().text, None);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(tell(99).unwrap().text, None);
    }
}
