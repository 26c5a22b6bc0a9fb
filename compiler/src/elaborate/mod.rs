//! `Ast` to `Model`: imports, variants, settings, axes, units, blocks, masks, schedules.
//!
//! Everything is computed when it is first read (call by need), starting from `loss`, metrics, `train` and `backbone`.
//! Blocks become trees of instances, whose places give the weight keys; tensors become nodes over named axes. The rules
//! are those of the language reference, section 3. Nothing here reads a file: text comes from the caller's [`Loader`].
//! The first mistake on a path of evaluation ends that path; paths that do not depend on each other are all reported.

mod amend;
mod axes;
mod builtins;
mod bundle;
mod calls;
mod comprehensions;
mod derive;
mod elementwise;
mod emit;
mod eval;
mod finish;
mod forward;
mod functions;
mod imports;
mod instances;
mod masks;
mod optimizer;
mod picks;
mod provenance;
mod prune;
mod reads;
mod schedules;
mod scope;
mod settings;
mod sources;
mod suggest;
mod taps;
mod train;
mod units;
mod value;
mod variants;
mod weights;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

pub use bundle::resolved;

use crate::diag::{Diagnostic, Fallible, Label};
use crate::ir::graph::SetId;
use crate::model::{self, AxisId, Model, NodeId, Tap};
use crate::source::{FileId, Loader, Sources, Span};
use crate::syntax::ast::Def;
use scope::{ScopeRef, ThunkRef};
use value::{Instance, Role};

/// `--set path=expr`, or one line of a sweep.
#[derive(Clone, Debug)]
pub struct Override {
    /// What is set, such as `encoder.depth`.
    pub path: String,
    /// The expression.
    pub value: String,
}

/// Why an evaluation stopped.
enum Stop {
    /// A mistake to report.
    Error(Box<Diagnostic>),
    /// A value needs itself; whoever knows its name reports it.
    Cycle,
    /// The place in a drawn list is needed as a number: the comprehension is evaluated once for each mask.
    NeedsNumber(Span),
}
type Res<T> = Result<T, Stop>;

/// Elaborates one model of a file. Without a name the file must hold exactly one.
pub fn elaborate(
    sources: &mut Sources,
    loader: &dyn Loader,
    file: FileId,
    model: Option<&str>,
    overrides: &[Override],
) -> Fallible<Model> {
    let mut elab = Elab::new(sources, loader);
    let result = elab.run(file, model, overrides);
    elab.forget();
    result
}

/// Names of the models that a file defines, in order.
pub fn models(sources: &mut Sources, loader: &dyn Loader, file: FileId) -> Fallible<Vec<String>> {
    let mut elab = Elab::new(sources, loader);
    let result = elab.load(file).map(|module| elab.model_names(module));
    elab.forget();
    result
}

/// Where an evaluation is. A value that is computed late is computed in the context in which it was written.
#[derive(Clone)]
struct Context {
    /// Path of the instance that nodes are made for.
    place: Rc<str>,
    /// Calls being evaluated, innermost first.
    site: Option<Rc<Site>>,
    /// Definitions being expanded, innermost first.
    expanding: Option<Rc<Expansion>>,
}

/// A call.
struct Site {
    span: Span,
    outer: Option<Rc<Site>>,
}

/// A definition that is being expanded.
struct Expansion {
    def: Rc<Def>,
    outer: Option<Rc<Expansion>>,
}

/// A file whose imports are resolved.
struct Module {
    file: FileId,
    /// Definitions and imports.
    names: Vec<(Rc<str>, ThunkRef)>,
    /// Models defined here.
    models: Vec<Rc<str>>,
    /// Its scope.
    scope: ScopeRef,
}

/// What the elaborator knows about an axis beyond what the model says.
struct AxisFacts {
    /// `a ++ b`.
    parts: Option<(AxisId, AxisId)>,
}

/// An `ema(...)`.
struct Follower {
    name: String,
    source: Rc<Instance>,
    /// The copies, of which one is used.
    copies: Vec<Rc<Instance>>,
    momentum: model::Schedule,
}

/// A stored tensor before it is known what it is to training.
struct Stored {
    weight: model::Weight,
    role: Role,
    /// Top-level field.
    root: Rc<str>,
}

/// A set of segments: its masks and what `~` yields.
struct DrawnSet {
    masks: Vec<usize>,
    tokens: AxisId,
}

/// The state of one elaboration.
struct Elab<'a> {
    sources: &'a mut Sources,
    loader: &'a dyn Loader,
    modules: Vec<Module>,
    loading: Vec<FileId>,
    /// Every scope made, so that the cycles between scopes and thunks can be cut at the end.
    scopes: Vec<std::rc::Weak<scope::Scope>>,

    axes: Vec<model::Axis>,
    axis_facts: Vec<AxisFacts>,
    joins: HashMap<(AxisId, AxisId), AxisId>,
    coords: HashMap<usize, AxisId>,

    nodes: Vec<model::Node>,
    /// For each node: its elements are whole numbers.
    whole: Vec<bool>,
    interned: HashMap<emit::Leaf, NodeId>,

    stored: Vec<Stored>,
    followers: Vec<Follower>,
    inputs: Vec<(Rc<Instance>, model::Source)>,
    masks: Vec<(Rc<Instance>, usize, model::Mask)>,
    sets: Vec<DrawnSet>,
    counted: HashMap<(SetId, bool), AxisId>,
    taps: Vec<Tap>,
    /// Variants of blocks and masks that were resolved, by their definition.
    derived: Vec<(Rc<Def>, Rc<value::Closure>)>,
    /// Model instances by their definition.
    models: Vec<(Rc<value::Closure>, Rc<Instance>)>,
    next_model: u32,
    /// Root fields, by model, whose weights are used.
    used: BTreeMap<(u32, Rc<str>), Rc<Instance>>,

    /// Where the evaluation is.
    at: Context,
    /// Fields that nothing reads, in files of the user.
    unread: Vec<reads::Unread>,
    /// Statements that silence a lint.
    allowed: Vec<(String, Span)>,
    /// Every `name` that some file reads as `value.name`.
    fields_read: HashSet<Rc<str>>,
    depth: usize,
    /// Where the stack stood when elaboration began.
    stack_start: usize,
    instances: usize,
    groups: usize,
}

impl<'a> Elab<'a> {
    fn new(sources: &'a mut Sources, loader: &'a dyn Loader) -> Elab<'a> {
        Elab {
            sources,
            loader,
            modules: vec![],
            loading: vec![],
            scopes: vec![],
            axes: vec![],
            axis_facts: vec![],
            joins: HashMap::new(),
            coords: HashMap::new(),
            nodes: vec![],
            whole: vec![],
            interned: HashMap::new(),
            stored: vec![],
            followers: vec![],
            inputs: vec![],
            masks: vec![],
            sets: vec![],
            counted: HashMap::new(),
            taps: vec![],
            derived: vec![],
            models: vec![],
            next_model: 0,
            used: BTreeMap::new(),
            at: Context { place: "".into(), site: None, expanding: None },
            unread: vec![],
            allowed: vec![],
            fields_read: HashSet::new(),
            depth: 0,
            stack_start: eval::stack_position(),
            instances: 0,
            groups: 0,
        }
    }

    /// Makes an error out of a diagnostic: blames the innermost call outside the standard library, and says in which
    /// part of the model it happened.
    fn fail(&self, mut d: Diagnostic) -> Stop {
        if let Some(first) = d.labels.first()
            && self.in_std(first.span)
            && let Some(site) = self.site_outside_std()
        {
            let std = d.labels.remove(0);
            d.labels.insert(0, Label { span: site, text: "in this call".into() });
            d.labels.push(std);
        }
        if !self.at.place.is_empty() {
            d.notes.push(format!("in {}", self.at.place));
        }
        Stop::Error(Box::new(d))
    }

    /// An error with one label.
    fn error<T>(&self, code: &'static str, message: impl Into<String>, span: Span, label: impl Into<String>) -> Res<T> {
        Err(self.fail(Diagnostic::error(code, message, span, label)))
    }

    /// Enters a call; gives the context to return to.
    fn enter(&mut self, span: Span) -> Context {
        let outside = self.at.clone();
        self.at.site = Some(Rc::new(Site { span, outer: outside.site.clone() }));
        outside
    }

    /// The innermost call outside the standard library.
    fn site_outside_std(&self) -> Option<Span> {
        let mut site = self.at.site.as_ref();
        while let Some(s) = site {
            if !self.in_std(s.span) {
                return Some(s.span);
            }
            site = s.outer.as_ref();
        }
        None
    }

    fn in_std(&self, span: Span) -> bool {
        self.sources.get(span.file).path.starts_with("std/")
    }

    /// Cuts the cycles between scopes and thunks, so that memory is given back.
    fn forget(&mut self) {
        for scope in self.scopes.drain(..) {
            if let Some(scope) = scope.upgrade() {
                scope.clear();
            }
        }
    }
}
