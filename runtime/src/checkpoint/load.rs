//! Finding and reading checkpoints.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use vjepac::ir::graph::SlotId;

use super::format::{self, DONE, MODEL, OPTIMIZER, STATE, State, VERSION};
use super::tensors::{Stored, read_tensors};
use crate::device::Session;
use crate::error::{Error, Result};

/// The newest complete checkpoint of a directory of checkpoints.
pub fn newest(checkpoints: &Path) -> Result<Option<PathBuf>> {
    Ok(complete(checkpoints)?.into_iter().max().map(|(_, directory)| directory))
}

/// Complete checkpoints by step, in no order.
pub fn complete(checkpoints: &Path) -> Result<Vec<(u64, PathBuf)>> {
    if !checkpoints.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(checkpoints).map_err(|e| Error::io("read", checkpoints, e))? {
        let path = entry.map_err(|e| Error::io("read", checkpoints, e))?.path();
        if let Some(step) = format::step_of(&path)
            && path.join(DONE).exists()
        {
            found.push((step, path));
        }
    }
    Ok(found)
}

/// Where a checkpoint stands.
pub fn read_state(directory: &Path) -> Result<State> {
    let path = directory.join(STATE);
    let text = fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
    let state: State = serde_json::from_str(&text).map_err(|e| Error::io("understand", &path, e))?;
    if state.version != VERSION {
        let (place, found) = (directory.display(), state.version);
        return Err(Error::failed(format!(
            "checkpoint `{place}` has layout version {found}; this program reads version {VERSION}"
        )));
    }
    Ok(state)
}

/// Reads a checkpoint into the session's slots.
pub fn load(directory: &Path, session: &mut Session) -> Result<State> {
    let state = read_state(directory)?;
    for file in [MODEL, OPTIMIZER] {
        let wanted: BTreeMap<String, (SlotId, Vec<usize>)> = session
            .slots()
            .filter(|(_, slot)| format::file_of(&slot.kind) == Some(file))
            .map(|(id, slot)| (slot.key.clone(), (id, slot.shape.clone())))
            .collect();
        fill(&directory.join(file), wanted, session).map_err(|e| with_cure(e, directory))?;
    }
    Ok(state)
}

/// A damaged checkpoint does not end a run for good: the one before it is still there.
fn with_cure(error: Error, directory: &Path) -> Error {
    let place = directory.display();
    Error::failed(format!("{error}; remove `{place}` to continue from the checkpoint before it, or from the start"))
}

/// Every wanted slot from a file that must hold exactly those.
fn fill(path: &Path, mut wanted: BTreeMap<String, (SlotId, Vec<usize>)>, session: &mut Session) -> Result<()> {
    let mut wrong = Vec::new();
    for tensor in read_tensors(path)? {
        let Stored { key, shape, .. } = &tensor;
        match (wanted.remove(key), tensor.floats()) {
            (Some((id, want)), Some(data)) if want == *shape => session.set_slot(id, data),
            (Some((_, want)), _) => wrong.push(format!("`{key}` is {shape:?}, not {want:?}")),
            (None, _) => wrong.push(format!("`{key}` is not part of the program")),
        }
    }
    wrong.extend(wanted.keys().map(|key| format!("`{key}` is missing")));
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::failed(format!("`{}` does not fit the program: {}", path.display(), wrong.join("; "))))
}
