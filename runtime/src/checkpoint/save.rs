//! Writing a checkpoint so that it is there whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::format::{self, DONE, MODEL, OPTIMIZER, STATE, State};
use super::tensors::{Tensor, write_tensors};
use crate::device::Session;
use crate::error::{Error, Result};

/// What the name of a directory in the making ends with.
const PARTIAL: &str = ".partial";

/// Saves the session's slots as the checkpoint of `state.step`, and keeps the newest `keep` checkpoints. Gives the
/// checkpoint's directory.
pub fn save(checkpoints: &Path, session: &Session, state: &State, keep: usize) -> Result<PathBuf> {
    let place = format::directory(checkpoints, state.step);
    let partial = checkpoints.join(format!(".{:08}{PARTIAL}", state.step));
    let written = write(&partial, session, state).and_then(|()| {
        // What stands here under the same name was made from the same step: it is replaced.
        if place.exists() {
            remove(&place)?;
        }
        fs::rename(&partial, &place).map_err(|e| Error::io("create", &place, e))?;
        sync(checkpoints)
    });
    if let Err(error) = written {
        let _ = fs::remove_dir_all(&partial); // the first error is the one to tell
        return Err(error);
    }
    drop_old(checkpoints, keep)?;
    Ok(place)
}

fn write(directory: &Path, session: &Session, state: &State) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(|e| Error::io("clear", directory, e))?;
    }
    fs::create_dir_all(directory).map_err(|e| Error::io("create", directory, e))?;
    for file in [MODEL, OPTIMIZER] {
        let of_file = session.slots().filter(|(_, slot)| format::file_of(&slot.kind) == Some(file));
        let tensors =
            of_file.map(|(id, slot)| (slot.key.as_str(), Tensor { shape: &slot.shape, data: session.slot(id) }));
        write_tensors(&directory.join(file), tensors)?;
    }
    let json = serde_json::to_string_pretty(state).expect("compiler bug: a state that is no JSON");
    write_file(&directory.join(STATE), &(json + "\n"))?;
    write_file(&directory.join(DONE), "")?;
    sync(directory)
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|e| Error::io("write", path, e))
}

/// Makes names in a directory durable.
fn sync(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|d| d.sync_all()).map_err(|e| Error::io("sync", directory, e))
}

/// Removes all complete checkpoints but the newest `keep` (at least one stays).
fn drop_old(checkpoints: &Path, keep: usize) -> Result<()> {
    let mut complete = super::load::complete(checkpoints)?;
    complete.sort();
    let old = complete.len().saturating_sub(keep.max(1));
    for (_, directory) in &complete[..old] {
        remove(directory)?;
    }
    Ok(())
}

/// Removes a checkpoint; the mark goes first, so that a half-removed one is none.
fn remove(directory: &Path) -> Result<()> {
    let mark = directory.join(DONE);
    let gone = if mark.exists() { fs::remove_file(&mark) } else { Ok(()) };
    gone.and_then(|()| fs::remove_dir_all(directory)).map_err(|e| Error::io("remove", directory, e))
}

/// Removes what an interrupted save left behind.
pub fn sweep_up(checkpoints: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(checkpoints) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(PARTIAL) {
            fs::remove_dir_all(entry.path()).map_err(|e| Error::io("remove", &entry.path(), e))?;
        }
    }
    Ok(())
}
