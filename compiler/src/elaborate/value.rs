//! What an expression can be worth while a model is being elaborated.

use std::cell::RefCell;
use std::rc::Rc;

use super::scope::{ScopeRef, ThunkRef};
use super::units::Unit;
use crate::ir::graph::SetId;
use crate::ir::op::{Dist, Which};
use crate::model::{AxisId, NodeId, Schedule};
use crate::source::Span;
use crate::syntax::ast::{Arg, Def, Expr, Gen, Kind, Stmt, Word};

/// A number: whole ones stay exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Exact.
    Whole(i64),
    /// Anything else.
    Real(f64),
}

impl Number {
    /// As a real number.
    pub fn real(self) -> f64 {
        match self {
            Number::Whole(n) => n as f64,
            Number::Real(x) => x,
        }
    }
}

/// A number with its unit and, if it was bound to a name, the axis it stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Num {
    /// The value.
    pub value: Number,
    /// Its unit.
    pub unit: Unit,
    /// The axis of that size.
    pub axis: Option<AxisId>,
}

impl Num {
    /// A bare whole number.
    pub fn whole(n: i64) -> Num {
        Num { value: Number::Whole(n), unit: Unit::None, axis: None }
    }

    /// A bare real number.
    pub fn real(x: f64) -> Num {
        Num { value: Number::Real(x), unit: Unit::None, axis: None }
    }

    /// The number itself, without axis.
    pub fn plain(self) -> Num {
        Num { axis: None, ..self }
    }
}

/// A tensor: a node plus what the language knows about its axes.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// The node.
    pub node: NodeId,
    /// Ordinary axes, in storage order.
    pub axes: Vec<AxisId>,
    /// Axes of enclosing comprehensions that it depends on; they broadcast freely.
    pub loops: Vec<AxisId>,
    /// For an index set: the axis that it points into.
    pub of: Option<AxisId>,
    /// For the result of a block: what its equations and parts gave can be read from it.
    pub made: Option<Rc<Made>>,
}

/// The run of a `forward` that made a tensor.
#[derive(Debug)]
pub struct Made {
    /// Its equations and calls.
    pub scope: ScopeRef,
    /// Name of the block.
    pub block: Rc<str>,
    /// For each call around it, innermost first: axes inside and what the caller has in their place.
    pub back: Vec<Vec<(AxisId, AxisId)>>,
}

/// A closed or half-open interval.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Lower end, included.
    pub lo: Value,
    /// Upper end.
    pub hi: Value,
    /// `..=`: the upper end is included.
    pub closed: bool,
}

/// One change made by `with`, a sweep or `--set`.
#[derive(Clone, Debug)]
pub struct Change {
    /// What is changed.
    pub path: Vec<Word>,
    /// What it becomes.
    pub what: ChangeTo,
    /// The stored key, if the line gives one.
    pub key: Option<Word>,
    /// Where the line was written: its names are looked up there after the model's fields.
    pub scope: ScopeRef,
    /// The line.
    pub span: Span,
    /// Lines of one `with` have one number.
    pub group: usize,
    /// The line stands in a section: `name { ... }`.
    pub section: bool,
}

/// The right-hand side of a change.
#[derive(Clone, Debug)]
pub enum ChangeTo {
    /// `path = expr`
    Value(Rc<Expr>),
    /// Any other statement.
    Statement(Rc<Stmt>),
}

/// A definition as a value, with the changes that wait to be applied when it is used.
#[derive(Clone, Debug)]
pub struct Closure {
    /// The definition.
    pub def: Rc<Def>,
    /// Scope of the file that holds it.
    pub file: ScopeRef,
    /// Changes, in order; what a block or mask has in `lines` is no longer here.
    pub changes: Vec<Change>,
    /// Statements and settings of the definition that come from a `with`.
    pub lines: Vec<Line>,
}

impl Closure {
    /// The `with` line that a statement or setting of the definition comes from.
    pub fn line(&self, span: Span) -> Option<&Line> {
        self.lines.iter().find(|l| l.span == span)
    }
}

/// A statement or setting of a variant that was not written in the base definition.
#[derive(Clone, Debug)]
pub struct Line {
    /// Which one.
    pub span: Span,
    /// Where it stands: names that the definition does not have are looked up there.
    pub scope: ScopeRef,
    /// The name that it gives a new meaning, and the name under which the old one is kept, if the line reads it.
    pub before: Option<(Rc<str>, Rc<str>)>,
}

/// What an instance was made from.
#[derive(Clone, Debug)]
pub enum What {
    /// A block, mask or model.
    Def(Rc<Closure>),
    /// A source or an optimiser.
    Builtin(&'static super::builtins::Record),
}

/// A change of one setting of an instance.
#[derive(Clone, Debug)]
pub struct SettingChange {
    /// Setting, then further down.
    pub path: Vec<Word>,
    /// New value.
    pub value: Rc<Expr>,
    /// Scope in which it is evaluated.
    pub scope: ScopeRef,
    /// Path of the instance as the user writes it.
    pub base: Rc<str>,
    /// The line.
    pub span: Span,
}

/// How an instance was made, so that it can be made again with changes.
#[derive(Clone, Debug)]
pub struct Maker {
    /// The definition.
    pub what: What,
    /// Arguments as written.
    pub args: Rc<[Arg]>,
    /// Scope of the arguments.
    pub scope: ScopeRef,
    /// The call.
    pub span: Span,
    /// Changes made since.
    pub changes: Vec<SettingChange>,
}

/// What an instance's weights are to training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Learnt.
    Trained,
    /// Moving average: index into `Elab::averages`.
    Average(usize),
    /// Loaded, never changed.
    Frozen,
}

/// Where an instance lives.
#[derive(Clone, Debug)]
pub struct Home {
    /// Number of the model that holds it.
    pub model: u32,
    /// Path of field names.
    pub place: Rc<str>,
    /// Path of stored names.
    pub key: Rc<str>,
    /// Top-level field.
    pub root: Rc<str>,
    /// Role of its weights.
    pub role: Role,
}

/// A block, mask, model, source or optimiser with its settings.
pub struct Instance {
    /// How it was made.
    pub maker: Maker,
    /// Settings.
    pub header: ScopeRef,
    /// Settings that were passed by name: their axes must be met.
    pub alias: RefCell<Vec<Rc<str>>>,
    /// `linear(dim -> dim)`: setting, private copy, original.
    pub private: RefCell<Vec<(Rc<str>, AxisId, AxisId)>>,
    /// Fields, once opened.
    pub body: RefCell<Option<ScopeRef>>,
    /// Where it lives, once a field holds it.
    pub home: RefCell<Option<Home>>,
    /// Set by `ema` and `frozen`.
    pub role: Option<Role>,
    /// For a source: its tensor.
    pub tensor: RefCell<Option<Tensor>>,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Instance({})", self.name())
    }
}

impl Instance {
    /// Name of its definition.
    pub fn name(&self) -> Rc<str> {
        match &self.maker.what {
            What::Def(c) => c.def.name.text.clone(),
            What::Builtin(r) => r.name.into(),
        }
    }

    /// Kind of its definition, if it has one.
    pub fn kind(&self) -> Option<Kind> {
        match &self.maker.what {
            What::Def(c) => Some(c.def.kind),
            What::Builtin(_) => None,
        }
    }

    /// Its path, or nothing if no field holds it.
    pub fn place(&self) -> Rc<str> {
        self.home.borrow().as_ref().map_or_else(|| "".into(), |h| h.place.clone())
    }
}

/// Where a list of one value for each mask came from, so that its items can be had one by one.
#[derive(Debug)]
pub struct Origin {
    /// The value for a mask.
    pub body: Rc<Expr>,
    /// `i, z ~ masks`.
    pub part: Gen,
    /// The masks.
    pub masks: Vec<Rc<Instance>>,
    /// Scope of the comprehension.
    pub scope: ScopeRef,
}

/// A value.
#[derive(Clone, Debug)]
pub enum Value {
    /// `24`
    Num(Num),
    /// `true`
    Bool(bool),
    /// `"bf16"`
    Text(Rc<str>),
    /// `none`
    None,
    /// `all`
    All,
    /// `0..n`
    Interval(Rc<Interval>),
    /// `a -> b -> c`
    Arrow(Rc<Vec<Value>>),
    /// A number that depends on the step.
    Schedule(Rc<Schedule>),
    /// `(time: 8, rows)`
    Group(Rc<Vec<(Option<Rc<str>>, Value)>>),
    /// Several axes that are treated as one: an axis parameter, or a group passed in place.
    Axes(Rc<Vec<AxisId>>),
    /// `[a, b]`
    List(Rc<Vec<Value>>),
    /// One value for each (mask, clip): a comprehension over a drawn list, with its set.
    Packed(SetId, Tensor, Rc<Origin>),
    /// A drawn mask: `z` of `z ~ masks`.
    Drawn(SetId),
    /// A tensor.
    Tensor(Tensor),
    /// A list of equal weights that acts as a tensor with this axis in front.
    Stacked(AxisId, Rc<Vec<Tensor>>),
    /// `mlp`
    Def(Rc<Closure>),
    /// `mlp(768)`
    Instance(Rc<Instance>),
    /// `video(...)`
    Source(Rc<Instance>),
    /// `train`
    Section(ScopeRef),
    /// `trunc_normal(0.02)`, with its parameters.
    Dist(Dist, Rc<Vec<Value>>),
    /// A built-in function.
    Builtin(&'static str),
}

/// A z value's two index sets, in the order of [`Which`].
pub const SIDES: [(&str, Which); 2] = [("context", Which::Context), ("target", Which::Target)];

impl Value {
    /// What it is, in words, with its article.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Num(_) => "a number",
            Value::Bool(_) => "a truth value",
            Value::Text(_) => "a text",
            Value::None => "`none`",
            Value::All => "`all`",
            Value::Interval(_) => "an interval",
            Value::Arrow(_) => "an arrow",
            Value::Schedule(_) => "a schedule",
            Value::Group(_) => "a group",
            Value::Axes(_) => "a group of axes",
            Value::List(_) => "a list",
            Value::Packed(..) => "a list of one value for each mask",
            Value::Drawn(_) => "a drawn mask",
            Value::Tensor(_) | Value::Stacked(..) => "a tensor",
            Value::Def(c) => match c.def.kind {
                Kind::Fn => "a function",
                Kind::Block => "a block that has not been given its settings",
                Kind::Mask => "a mask that has not been given its settings",
                Kind::Model => "a model",
            },
            Value::Instance(i) => match i.kind() {
                Some(Kind::Mask) => "a mask",
                Some(Kind::Model) => "a model",
                Some(_) => "a block",
                None => "an optimiser",
            },
            Value::Source(_) => "a source",
            Value::Section(_) => "a section",
            Value::Dist(..) => "a distribution",
            Value::Builtin(_) => "a built-in function",
        }
    }

    /// A bare whole number.
    pub fn whole(n: usize) -> Value {
        Value::Num(Num::whole(n as i64))
    }
}

/// A thunk of a ready value.
pub fn ready(value: Value) -> ThunkRef {
    super::scope::Thunk::ready(value)
}
