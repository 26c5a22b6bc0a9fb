//! What can go wrong in a run, as the command line tells it: wrong usage (exit status 2) or anything else (1).

use std::fmt;
use std::path::Path;

use vjepac::lower::LowerError;

/// A failure with the one message that is shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// The command line asks for something that cannot be.
    Usage(String),
    /// Anything else.
    Failed(String),
}

/// What most functions of the runtime return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure that is not the command line's.
    pub fn failed(message: impl Into<String>) -> Error {
        Error::Failed(message.into())
    }

    /// Wrong usage.
    pub fn usage(message: impl Into<String>) -> Error {
        Error::Usage(message.into())
    }

    /// A failure to read or write a file: `cannot WHAT PATH: reason`.
    pub fn io(what: &str, path: &Path, reason: impl fmt::Display) -> Error {
        Error::Failed(format!("cannot {what} `{}`: {}", path.display(), plain(&reason.to_string())))
    }

    /// The exit status.
    pub fn status(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Failed(_) => 1,
        }
    }
}

/// The system's words without its number and capital letter.
fn plain(reason: &str) -> String {
    let words = reason.split(" (os error").next().unwrap_or(reason);
    let mut letters = words.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(m) | Error::Failed(m) => f.write_str(m),
        }
    }
}

impl std::error::Error for Error {}

impl From<LowerError> for Error {
    fn from(error: LowerError) -> Error {
        match error {
            LowerError::User(m) => Error::Failed(m),
            LowerError::Bug(m) => Error::Failed(format!("compiler bug: {m}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_quoted_without_its_numbers() {
        let missing = std::fs::read("no/such/file").unwrap_err();
        let error = Error::io("read", Path::new("no/such/file"), missing);
        assert_eq!(error.to_string(), "cannot read `no/such/file`: no such file or directory");
        assert_eq!(error.status(), 1);
    }
}
