//! The directory of a run: what lies where, and whether it may be used.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::checkpoint;
use crate::error::{Error, Result};

/// A run's directory, which need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDirectory {
    /// Where.
    pub root: PathBuf,
}

impl RunDirectory {
    /// The program that is trained.
    pub fn program(&self) -> PathBuf {
        self.root.join("program.vjc")
    }

    /// The model as one file.
    pub fn resolved(&self) -> PathBuf {
        self.root.join("resolved.vjepa")
    }

    /// One line a step.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// Messages.
    pub fn log(&self) -> PathBuf {
        self.root.join("log.txt")
    }

    /// Files that could not be read, and what took their place; there only if there were some.
    pub fn substitutions(&self) -> PathBuf {
        self.root.join("substitutions.jsonl")
    }

    /// Checkpoints by step.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Fails if the directory holds another run, or files that are no run. Changes nothing.
    pub fn inspect(&self, program: &[u8]) -> Result<()> {
        let Ok(mut entries) = fs::read_dir(&self.root) else {
            if self.root.exists() {
                let root = self.root.display();
                return Err(Error::failed(format!("`{root}` is no directory that can be read; give another `--out`")));
            }
            return Ok(());
        };
        let root = self.root.display();
        match fs::read(self.program()) {
            Ok(held) if held == program => Ok(()),
            Ok(_) => Err(Error::failed(format!(
                "`{root}` holds a run of another program (`{}` differs); give another `--out`, or the program that this \
                 run was started with",
                self.program().display()
            ))),
            Err(_) if entries.next().is_none() => Ok(()),
            Err(_) => {
                Err(Error::failed(format!("`{root}` holds files but no run; give a new or empty directory as `--out`")))
            }
        }
    }

    /// Makes what a run needs. The program comes last: without it there is no run.
    pub fn create(&self, program: &[u8], resolved: &str) -> Result<()> {
        let made = !self.root.exists();
        let write = || {
            fs::create_dir_all(self.checkpoints()).map_err(|e| Error::io("create", &self.checkpoints(), e))?;
            if self.program().exists() {
                // Continuing: find out now, not after hours, that nothing can be written.
                let probe = self.checkpoints().join(".writable");
                let done = File::create(&probe).and_then(|_| fs::remove_file(&probe));
                return done.map_err(|e| Error::io("write in", &self.root, e));
            }
            write_whole(&self.resolved(), resolved.as_bytes())?;
            write_whole(&self.program(), program)
        };
        write().inspect_err(|_| {
            if made {
                let _ = fs::remove_dir_all(&self.root); // the first error is the one to tell
            }
        })?;
        checkpoint::sweep_up(&self.checkpoints())
    }
}

/// Writes a file so that it is there whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&partial);
        Error::io("write", path, e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let run = |name: &str| RunDirectory { root: dir.path().join(name) };
        assert_eq!(run("new").inspect(b"p"), Ok(()));
        run("new").create(b"p", "model").unwrap();
        assert_eq!(run("new").inspect(b"p"), Ok(()));
        let error = run("new").inspect(b"q").unwrap_err().to_string();
        assert!(error.contains("holds a run of another program"), "{error}");
        fs::create_dir(dir.path().join("other")).unwrap();
        assert_eq!(run("other").inspect(b"p"), Ok(()));
        fs::write(dir.path().join("other/thesis.txt"), "").unwrap();
        assert!(run("other").inspect(b"p").unwrap_err().to_string().contains("holds files but no run"));
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(run("file").inspect(b"p").is_err());
    }

    #[test]
    fn a_place_that_cannot_be_written_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let run = RunDirectory { root: dir.path().join("file/run") };
        let error = run.create(b"p", "model").unwrap_err();
        assert_eq!(error.status(), 1);
        assert!(error.to_string().starts_with("cannot create"), "{error}");
    }
}
