//! Why a login host was not asked, or did not answer.

use std::fmt;

use crate::failure::{Failure, Kind};

/// No `std::error::Error`, so that `?` makes no failure of an unknown kind of it: see [`LoginError::failure`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginError {
    /// There is no safe place for the connection's control socket.
    NoPlace(String),
    /// There is no ssh here.
    NoSsh(String),
    /// Only the user may open the connection, by this command.
    NotOpen { to: String, command: String },
    /// ssh found no way to it.
    Unreachable(String),
    /// It does not let us in.
    Refused(String),
    /// It takes no more sessions on the connection.
    Full(String),
    /// No login, no session or no answer came in time.
    Silent(String),
    /// The session ended before an answer came.
    Lost(String),
    /// The account there is another than before in this call.
    OtherAccount(String),
}

impl LoginError {
    /// The failure of a call that could not do without the login host; `what` was being done.
    pub fn failure(&self, what: impl Into<String>) -> Failure {
        let (kind, remedy) = match self {
            LoginError::NoPlace(_) => (
                Kind::Storage,
                "set controlPath to a path of at most 90 characters in a directory of your own with mode 0700",
            ),
            _ => (Kind::SlurmUnavailable, "see `slurm-sandbox doctor`; then repeat the call"),
        };
        Failure::new(kind, what).remedy(remedy).cause(self.to_string())
    }
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoginError::NotOpen { to, command } => {
                write!(f, "requireExistingMaster is set and no connection to {to} is open; open one with: {command}")
            }
            LoginError::NoPlace(said)
            | LoginError::NoSsh(said)
            | LoginError::Unreachable(said)
            | LoginError::Refused(said)
            | LoginError::Full(said)
            | LoginError::Silent(said)
            | LoginError::Lost(said)
            | LoginError::OtherAccount(said) => f.write_str(said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_place_is_not_worth_another_call() {
        let text = || "why".to_owned();
        let not_open = LoginError::NotOpen { to: "login".into(), command: "ssh -fN login".into() };
        assert!(not_open.failure("listing").to_string().ends_with("open one with: ssh -fN login"));
        for error in [
            not_open,
            LoginError::NoSsh(text()),
            LoginError::Unreachable(text()),
            LoginError::Refused(text()),
            LoginError::Full(text()),
            LoginError::Silent(text()),
            LoginError::Lost(text()),
            LoginError::OtherAccount(text()),
        ] {
            let failure = error.failure("acquiring lease cbx_0");
            assert_eq!(failure.kind, Kind::SlurmUnavailable, "{error:?}");
            assert!(failure.kind.row().retry_safe);
        }
        assert!(LoginError::NoPlace(text()).failure("listing").to_string().contains("controlPath"));
    }
}
