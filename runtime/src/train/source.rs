//! Clips of a run's data: the loader, bound to the program's inputs, and the record of files that could not be read.
//!
//! Substitutions are appended to a file of the run as they happen. A continued run is handed those of the steps that it
//! does again, so that a file which once timed out is replaced again.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use vjepac::ir::graph::InputSpec;
use vjepac::program::Program;

use super::run_loop::ClipSource;
use crate::clips::index::{Index, Source};
use crate::clips::loader::{Batch, Loader, LoaderOptions, Substitution};
use crate::clips::sites::{Site, bind};
use crate::error::{Error, Result};
use crate::settings;
use crate::video::TIMEOUT;

/// Which clips a run needs.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The command line.
    pub settings: &'a settings::Train,
    /// Seed of the run.
    pub seed: u64,
    /// The first step.
    pub first_step: u64,
    /// The file of substitutions.
    pub record: PathBuf,
}

/// Opens the lists and folders that the command line and the site file name, and starts to decode.
pub fn open(program: &Program, wanted: &Wanted) -> Result<Box<dyn ClipSource>> {
    let run = program.run.as_ref().ok_or_else(|| Error::failed("the program has no `train` section"))?;
    let sources = program.tables.inputs.iter().filter_map(|input| match input {
        InputSpec::Video(spec) => Some((Source::Video, spec)),
        InputSpec::Image(spec) => Some((Source::Image, spec)),
        InputSpec::Label { .. } => None,
    });
    let sources: Vec<_> = sources.collect();
    let [(source, spec)] = sources.as_slice() else {
        return Err(Error::failed(format!("the model has {} sources of clips; one can be trained on", sources.len())));
    };
    let names: Vec<String> = run.data.iter().map(|(name, _)| name.clone()).collect();
    let places = bind(&names, &Site::of_folder(Path::new(""))?, &wanted.settings.data)?;
    let share = |name: &str| run.data.iter().find(|(n, _)| n == name).and_then(|(_, share)| *share);
    let data = places.iter().map(|(name, path)| Ok((Index::read(name, path, *source)?, share(name))));
    let known = read_record(&wanted.record, wanted.first_step)?;
    let written = known.iter().map(|s| (s.step, s.slot, s.attempt)).collect();
    let loader = Loader::new(LoaderOptions {
        data: data.collect::<Result<_>>()?,
        spec: (*spec).clone(),
        batch: run.batch,
        seed: wanted.seed,
        workers: wanted.settings.workers,
        cache_memory: wanted.settings.cache_memory,
        first_step: wanted.first_step,
        recorded: known,
        timeout: TIMEOUT,
    })?;
    let inputs = program.tables.inputs.clone();
    Ok(Box::new(FromLoader { loader, inputs, record: wanted.record.clone(), written, notes: Vec::new() }))
}

struct FromLoader {
    loader: Loader,
    inputs: Vec<InputSpec>,
    record: PathBuf,
    written: BTreeSet<(u64, u64, u32)>,
    notes: Vec<String>,
}

impl ClipSource for FromLoader {
    fn fetch(&mut self, step: u64) -> Result<Vec<Vec<f32>>> {
        let batch = self.loader.next()?;
        if batch.step != step {
            return Err(Error::failed(format!("compiler bug: the loader is at step {}, not {step}", batch.step)));
        }
        self.tell(&batch.substitutions)?;
        inputs(&self.inputs, batch)
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}

impl FromLoader {
    fn tell(&mut self, substitutions: &[Substitution]) -> Result<()> {
        for s in substitutions {
            let (step, path, reason, other) = (s.step, s.path.display(), &s.reason, s.replacement.display());
            self.notes.push(format!("step {step}: `{path}` was replaced by `{other}`: {reason}"));
            if self.written.insert((s.step, s.slot, s.attempt)) {
                append(&self.record, s)?;
            }
        }
        Ok(())
    }
}

/// A batch as the program's inputs.
fn inputs(specs: &[InputSpec], batch: Batch) -> Result<Vec<Vec<f32>>> {
    let Batch { clips, labels, paths, .. } = batch;
    let mut clips = Some(clips);
    let one = |spec: &InputSpec| match spec {
        InputSpec::Video(_) | InputSpec::Image(_) => Ok(clips.take().unwrap_or_default()),
        InputSpec::Label { classes } => {
            let label = |(label, path): (&Option<u32>, &PathBuf)| match label {
                Some(class) if (*class as usize) < *classes => Ok(*class as f32),
                Some(class) => {
                    let path = path.display();
                    Err(Error::failed(format!(
                        "`{path}` is labelled {class}, and the model has {classes} classes, from 0"
                    )))
                }
                None => Err(Error::failed(format!("`{}` has no label, and the model reads one", path.display()))),
            };
            labels.iter().zip(&paths).map(label).collect()
        }
    };
    specs.iter().map(one).collect()
}

fn append(path: &Path, substitution: &Substitution) -> Result<()> {
    let mut line = serde_json::to_vec(substitution).expect("compiler bug: a substitution that is no JSON");
    line.push(b'\n');
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut f| f.write_all(&line)).map_err(|e| Error::io("write", path, e))
}

/// The substitutions of steps from `first` on. A line that was cut short by a crash is left out.
fn read_record(path: &Path, first: u64) -> Result<Vec<Substitution>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let all = text.lines().filter_map(|line| serde_json::from_str::<Substitution>(line).ok());
            Ok(all.filter(|s| s.step >= first).collect())
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound || e.kind() == std::io::ErrorKind::NotADirectory => {
            Ok(Vec::new())
        }
        Err(e) => Err(Error::io("read", path, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_from_a_step_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("substitutions.jsonl");
        assert_eq!(read_record(&path, 1).unwrap(), []);
        let at = |step| Substitution {
            step,
            slot: 0,
            attempt: 0,
            path: "a.mp4".into(),
            reason: "it timed out".into(),
            replacement: "b.mp4".into(),
        };
        (3..=5).for_each(|step| append(&path, &at(step)).unwrap());
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"step\":6,").unwrap();
        assert_eq!(read_record(&path, 4).unwrap(), [at(4), at(5)]);
    }

    #[test]
    fn labels_are_numbers_of_the_model() {
        let batch = |label| Batch {
            step: 1,
            clips: vec![0.5],
            labels: vec![label],
            paths: vec!["a.mp4".into()],
            substitutions: vec![],
            wait_seconds: 0.0,
        };
        let specs = [InputSpec::Label { classes: 3 }];
        assert_eq!(inputs(&specs, batch(Some(2))).unwrap(), [[2.0]]);
        assert!(inputs(&specs, batch(Some(3))).unwrap_err().to_string().contains("labelled 3"));
        assert!(inputs(&specs, batch(None)).unwrap_err().to_string().contains("has no label"));
    }
}
