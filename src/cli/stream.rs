//! An answer that comes in pieces, for as long as somebody reads it: what follows a lease or watches all of them.

use std::fmt;
use std::io::{self, ErrorKind};

use super::Outcome;
use crate::failure::Failure;

/// The pieces. The next one is only made when the last one was written.
pub struct Stream(Box<dyn Iterator<Item = Result<Vec<u8>, Failure>>>);

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

impl Stream {
    pub fn new(pieces: impl Iterator<Item = Result<Vec<u8>, Failure>> + 'static) -> Stream {
        Stream(Box::new(pieces))
    }

    /// Writes piece by piece to the end, and tells how it went. A reader who goes away has seen enough.
    pub fn write(self, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> Outcome {
        for piece in self.0 {
            let written = piece.map(|piece| (write(&piece), piece));
            match written {
                Err(failure) => return super::refused(&failure),
                Ok((Ok(()), _)) => {}
                Ok((Err(error), _)) if error.kind() == ErrorKind::BrokenPipe => break,
                Ok((Err(error), stdout)) => {
                    let mut outcome = Outcome { stdout, exit: 1, ..Outcome::default() };
                    outcome.undelivered(&error);
                    return outcome;
                }
            }
        }
        Outcome::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    fn pieces(last: Result<&str, Failure>) -> Stream {
        let last = last.map(|text| text.as_bytes().to_vec());
        Stream::new([Ok(b"one\n".to_vec()), last].into_iter())
    }

    #[test]
    fn all_pieces_are_written_in_turn() {
        let mut text = Vec::new();
        let outcome = pieces(Ok("two\n")).write(|piece| {
            text.extend_from_slice(piece);
            Ok(())
        });
        assert_eq!((text.as_slice(), outcome.exit, outcome.stderr.as_str()), (&b"one\ntwo\n"[..], 0, ""));
    }

    #[test]
    fn a_reader_who_goes_away_is_no_failure() {
        let mut times = 0;
        let outcome = pieces(Ok("two\n")).write(|_| {
            times += 1;
            Err(ErrorKind::BrokenPipe.into())
        });
        assert_eq!((times, outcome.exit, outcome.stderr.as_str()), (1, 0, ""));
        let outcome = pieces(Ok("two\n")).write(|_| Err(io::Error::other("disk full")));
        assert!(outcome.exit == 1 && outcome.stderr.ends_with("disk full"), "{outcome:?}");
    }

    #[test]
    fn a_failure_ends_it_with_its_exit_code() {
        let outcome = pieces(Err(Failure::new(Kind::Storage, "reading"))).write(|_| Ok(()));
        assert_eq!(outcome.exit, Kind::Storage.row().exit);
    }
}
