//! sshd's first line, which it gives to whoever connects: whether one listens, without a login's cost.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// How long a lease's sshd is waited for. A healthy one answers within milliseconds; a login then tells what is wrong.
const PATIENCE: Duration = Duration::from_secs(1);

/// More than any server says before its banner.
const MOST_BYTES: u64 = 4096;

/// Whether an sshd answers there. Name services may hang, so it is asked on a thread of its own.
pub fn answers(host: &str, port: u16) -> bool {
    let (done, wait) = channel();
    let host = host.to_owned();
    let thread = std::thread::Builder::new().name("banner".to_owned()).spawn(move || {
        done.send(ask(&host, port)).ok();
    });
    thread.is_ok() && wait.recv_timeout(PATIENCE).unwrap_or(false)
}

fn ask(host: &str, port: u16) -> bool {
    let until = Instant::now() + PATIENCE;
    let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    // The first address that connects, as ssh does.
    let mut addresses = (host, port).to_socket_addrs().into_iter().flatten();
    let Some(stream) = addresses.find_map(|address| TcpStream::connect_timeout(&address, left()).ok()) else {
        return false;
    };
    let banner = read(&stream, left());
    // Who says who he is before he goes is no scanner in sshd's log.
    (&stream).write_all(b"SSH-2.0-slurm-sandbox\r\n").ok();
    banner.is_some()
}

/// What the server at the other end calls itself. It may say other lines before (RFC 4253, section 4.2).
pub fn read(stream: &TcpStream, patience: Duration) -> Option<String> {
    stream.set_read_timeout(Some(patience)).ok()?;
    let mut reader = BufReader::new(stream.take(MOST_BYTES));
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&line);
        if text.starts_with("SSH-") {
            return Some(text.trim().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::net::{Shutdown, TcpListener};

    #[rstest]
    #[case::sshd("SSH-2.0-OpenSSH_9.2\r\n", true)]
    #[case::something_else("220 mail.example\r\n", false)]
    #[case::behind_other_lines("No unauthorised use\r\nSSH-2.0-OpenSSH_9.2p1 Debian\r\n", true)]
    #[case::nothing("", false)]
    fn who_listens(#[case] says: &'static str, #[case] expected: bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(says.as_bytes()).ok();
            stream.shutdown(Shutdown::Write).ok();
            // Until the other side goes.
            stream.read_to_end(&mut vec![]).ok();
        });
        assert_eq!(answers("127.0.0.1", port), expected);
        server.join().unwrap();
        assert!(!answers("127.0.0.1", port), "nobody listens any more");
    }
}
