//! A connection between our own standard streams and a port: the way to an sshd for which no other program is needed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::Duration;

/// As long as ssh waits for a lease (ssh/lease.rs); a node answers in milliseconds.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// What a pipe holds.
const BUFFER_BYTES: usize = 64 << 10;

/// Copies both ways until the other end closes, or ours cannot be written any more.
///
/// # Errors
/// When there is no connection.
pub fn to(host: &str, port: u16) -> io::Result<()> {
    let stream = connect(host, port)?;
    stream.set_nodelay(true)?;
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(super::caller::stdout().as_fd().try_clone_to_owned()?);
    let up = stream.try_clone()?;
    std::thread::Builder::new().name("upstream".to_owned()).spawn(move || {
        copy(input, &up);
        // The other side may still have something to say.
        up.shutdown(Shutdown::Write).ok();
    })?;
    copy(&stream, output);
    Ok(())
}

/// Copies until one of them ends. [`io::copy`] would splice, and a splice that waits for a socket holds the lock of its pipe, so that
/// whoever is to read from that pipe hangs with it.
fn copy(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) if to.write_all(&buffer[..count]).is_ok() => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// The first address that connects, as ssh does.
fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
