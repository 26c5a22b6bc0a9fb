//! The hand-over: everything a run needs, and the `.vjc` file it travels in.
//!
//! A program depends on no device, batch or memory size. Its entries are graphs over shared [`Tables`]:
//! `init` stores buffers and initial weights; `draw` computes every mask's yes or no (f64 and bool, run by the
//! interpreter); `grads` runs forward and backward and adds into gradient slots; `update` clips, steps the optimiser and
//! moves the averages; `metrics` and `backbone` only compute.

use serde::{Deserialize, Serialize};

use crate::ir::graph::{Graph, Tables};
use crate::ir::parse_text::parse_module;
use crate::ir::print;
use crate::model::Schedule;

/// Names of the entries, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "described at the top of the file")]
pub enum Entry {
    Init,
    Draw,
    Grads,
    Update,
    Metrics,
    Backbone,
}

impl Entry {
    /// All of them.
    pub const ALL: [Entry; 6] =
        [Entry::Init, Entry::Draw, Entry::Grads, Entry::Update, Entry::Metrics, Entry::Backbone];

    /// As written in `.vjc` files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Entry::Init => "init",
            Entry::Draw => "draw",
            Entry::Grads => "grads",
            Entry::Update => "update",
            Entry::Metrics => "metrics",
            Entry::Backbone => "backbone",
        }
    }
}

/// Settings of a run (`train { ... }`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSettings {
    /// Names of data with their shares.
    pub data: Vec<(String, Option<f64>)>,
    /// Clips of one optimiser step.
    pub batch: usize,
    /// Clips whose masks are cut to one length; 0 if no mask is drawn.
    pub group: usize,
    /// Optimiser steps.
    pub steps: usize,
    /// Seed.
    pub seed: u64,
    /// `f32` or `bf16`.
    pub precision: String,
}

/// Requirements of a mask draw: output names of the `draw` entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskOutputs {
    /// Bool, outer Clips (or One), dims (extra..., factors...).
    pub context: String,
    /// As context.
    pub target: String,
    /// Bool, no dims: all must hold, else the clip is drawn again.
    pub require: Vec<String>,
}

/// A compiled model.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Model name.
    pub name: String,
    /// Stored tensors, inputs, scalars, masks, counts.
    pub tables: Tables,
    /// Schedules that scalars refer to.
    pub schedules: Vec<Schedule>,
    /// For each mask of the tables, where the draw entry puts it.
    pub masks: Vec<MaskOutputs>,
    /// Entry graphs, in the order of [`Entry::ALL`]; an absent backbone is an empty graph.
    pub entries: [Graph; 6],
    /// Run settings.
    pub run: Option<RunSettings>,
    /// The model as one file: imports, variants and overrides applied.
    pub resolved: String,
}

impl Program {
    /// The graph of an entry.
    pub fn entry(&self, entry: Entry) -> &Graph {
        &self.entries[entry as usize]
    }
}

/// The format that this version writes and reads.
pub const FORMAT: u32 = 1;
const MAGIC: &str = "vjepac program ";

/// What is inside a `.vjc` file, after its two header lines.
#[derive(Serialize, Deserialize)]
struct Contents {
    name: String,
    tables: Tables,
    schedules: Vec<Schedule>,
    masks: Vec<MaskOutputs>,
    run: Option<RunSettings>,
    resolved: String,
    /// Text IR of each entry.
    entries: [String; 6],
}

/// Why a `.vjc` file was refused; says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError(pub String);

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ReadError {}

impl Program {
    /// The `.vjc` file: a line with the format, a line with length and CRC-32, then JSON that holds the graphs as text
    /// IR. Identical programs give identical bytes.
    pub fn write(&self) -> Vec<u8> {
        let contents = Contents {
            name: self.name.clone(),
            tables: self.tables.clone(),
            schedules: self.schedules.clone(),
            masks: self.masks.clone(),
            run: self.run.clone(),
            resolved: self.resolved.clone(),
            entries: self.entries.each_ref().map(print::print),
        };
        let body = serde_json::to_string(&contents).expect("compiler bug: a program that is not JSON");
        let crc = crc32fast::hash(body.as_bytes());
        format!("{MAGIC}{FORMAT}\n{} bytes, crc32 {crc:08x}\n{body}\n", body.len()).into_bytes()
    }

    /// Reads a `.vjc` file, refusing other formats and damaged files.
    pub fn read(bytes: &[u8]) -> Result<Program, ReadError> {
        let refuse = |why: &str| Err(ReadError(why.to_string()));
        let mut lines = bytes.splitn(3, |b| *b == b'\n');
        let text = |line: Option<&[u8]>| line.and_then(|l| std::str::from_utf8(l).ok()).unwrap_or("").to_string();
        let (magic, summary) = (text(lines.next()), text(lines.next()));
        let Some(format) = magic.strip_prefix(MAGIC) else {
            return refuse("this is not a compiled model; make one with `vjepac compile MODEL.vjepa -o MODEL.vjc`");
        };
        if format != FORMAT.to_string() {
            return Err(ReadError(format!(
                "compiled in format {format}, but this version reads format {FORMAT}; compile the .vjepa file again"
            )));
        }
        let numbers = summary
            .split_once(" bytes, crc32 ")
            .and_then(|(length, crc)| Some((length.parse::<usize>().ok()?, u32::from_str_radix(crc, 16).ok()?)));
        let (Some((length, crc)), Some(rest)) = (numbers, lines.next()) else {
            return refuse("the file is cut short in its header; compile the .vjepa file again");
        };
        if rest.len() < length {
            return Err(ReadError(format!(
                "the file is cut short: {length} bytes were written, {} are there; compile the .vjepa file again",
                rest.len()
            )));
        }
        let body = &rest[..length];
        if crc32fast::hash(body) != crc {
            return refuse("the file is damaged: its checksum differs; compile the .vjepa file again");
        }
        let contents: Contents = serde_json::from_slice(body)
            .map_err(|e| ReadError(format!("the file does not hold a program ({e}); compile the .vjepa file again")))?;
        let mut entries: [Graph; 6] = Default::default();
        for (entry, (text, graph)) in Entry::ALL.iter().zip(contents.entries.iter().zip(&mut entries)) {
            (_, *graph) = parse_module(text).map_err(|e| {
                ReadError(format!("entry `{}` does not read back ({e}); compile the .vjepa file again", entry.name()))
            })?;
        }
        let Contents { name, tables, schedules, masks, run, resolved, .. } = contents;
        Ok(Program { name, tables, schedules, masks, entries, run, resolved })
    }
}
