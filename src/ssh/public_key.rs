//! Public keys as lines of text: those that sandboxed code publishes, and those that people configure.

/// `type base64` of a public key line, without its comment; `None` when it is none.
pub fn host_key(line: &str) -> Option<String> {
    const TYPES: &[&str] =
        &["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];
    let mut words = line.split(' ');
    let (kind, key) = (words.next()?, words.next()?);
    let base64 = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
    (TYPES.contains(&kind) && base64 && (40..=2000).contains(&key.len())).then(|| format!("{kind} {key}"))
}
