//! The syntax tree: what the text says, with a span on every node, before any name is looked up.

use std::rc::Rc;

use crate::source::{FileId, Span};

/// A name or other text with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// The text.
    pub text: Rc<str>,
    /// Where it stands.
    pub span: Span,
}

/// One file.
#[derive(Clone, Debug)]
pub struct Ast {
    /// The file.
    pub file: FileId,
    /// `from module import a, b as c`.
    pub imports: Vec<Import>,
    /// Definitions in the order written.
    pub defs: Vec<Rc<Def>>,
}

/// `from std.nn import linear, mlp as ffn`.
#[derive(Clone, Debug)]
pub struct Import {
    /// `std.nn` or `./blocks`.
    pub module: Word,
    /// `(name there, name here)`.
    pub names: Vec<(Word, Word)>,
}

/// The four kinds of definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A formula.
    Fn,
    /// A formula with weights.
    Block,
    /// A random yes or no for every token.
    Mask,
    /// A block whose result is a loss, and how to train it.
    Model,
}

/// `kind name[axes](formals) { body }` or `... = expr`.
#[derive(Clone, Debug)]
pub struct Def {
    /// fn, block, mask or model.
    pub kind: Kind,
    /// Its name.
    pub name: Word,
    /// Axis parameters of a `fn`.
    pub axes: Vec<Word>,
    /// Settings (inputs, for a `fn`).
    pub formals: Vec<Formal>,
    /// What it is.
    pub value: DefValue,
    /// The `##` comment above it.
    pub doc: Option<String>,
    /// The whole definition.
    pub span: Span,
}

/// Body or expression of a definition.
#[derive(Clone, Debug)]
pub enum DefValue {
    /// `{ ... }`
    Body(Rc<Body>),
    /// `= expr`
    Expr(Rc<Expr>),
}

/// A setting or input: `names` has more than one item for `a -> b`.
#[derive(Clone, Debug)]
pub struct Formal {
    /// `dim`, or `i`, `o` of `i -> o`.
    pub names: Vec<Word>,
    /// `: [dim]`, `: [context] in tokens` or `: (time, rows, cols)`.
    pub kind: Option<FormalKind>,
    /// `= expr`.
    pub default: Option<Rc<Expr>>,
    /// All of it.
    pub span: Span,
}

/// What a formal must look like.
#[derive(Clone, Debug)]
pub enum FormalKind {
    /// `[a, b]`, optionally `in axis`.
    Shape(Vec<Rc<Expr>>, Option<Word>),
    /// `(time, rows, cols)`.
    Group(Vec<Word>),
}

/// Statements between braces.
#[derive(Clone, Debug)]
pub struct Body {
    /// In the order written, which means nothing.
    pub stmts: Vec<Rc<Stmt>>,
    /// With the braces.
    pub span: Span,
}

/// One statement.
#[derive(Clone, Debug)]
pub struct Stmt {
    /// What it says.
    pub kind: StmtKind,
    /// `allow(V0501)`: lints that are silent about this statement.
    pub allow: Vec<Word>,
    /// All of it.
    pub span: Span,
}

/// What a statement says.
#[derive(Clone, Debug)]
pub enum StmtKind {
    /// `param name[list] "key": [shape] ~ dist if cond` or `buffer ...`.
    Learn(Learn),
    /// `require cond : "message"`.
    Require(Rc<Expr>, Option<Word>),
    /// `forward(formals) = expr` (then the body is one `return`) or `{ ... }`.
    Forward(Vec<Formal>, Rc<Body>),
    /// `return expr`.
    Return(Rc<Expr>),
    /// `metric name = expr`.
    Metric(Word, Rc<Expr>),
    /// `name { ... }`.
    Section(Word, Rc<Body>),
    /// `name[axes] ~ expr per batch`.
    Draw {
        /// The drawn name.
        name: Word,
        /// One draw for each position of these axes.
        axes: Vec<Word>,
        /// Interval, distribution or plain value.
        from: Rc<Expr>,
        /// `batch`, or the name after `per`.
        per: Option<Word>,
    },
    /// `a.b = expr`, `q, k, v = expr`, `name "key": kind = expr`.
    Bind {
        /// One path, or several names to take a list apart.
        targets: Vec<Path>,
        /// The stored key.
        key: Option<Word>,
        /// An optional declaration.
        kind: Option<FormalKind>,
        /// The value.
        value: Rc<Expr>,
    },
}

/// `param` or `buffer`.
#[derive(Clone, Debug)]
pub struct Learn {
    /// `param` is learnt, `buffer` computed.
    pub trained: bool,
    /// Its name in the body.
    pub name: Word,
    /// `[queries]`: one stored tensor for each index.
    pub list: Vec<Word>,
    /// The stored key.
    pub key: Option<Word>,
    /// Stored dimensions.
    pub shape: Vec<Rc<Expr>>,
    /// `= expr` (false) or `~ expr` (true).
    pub drawn: bool,
    /// The value or distribution.
    pub init: Rc<Expr>,
    /// `if cond`.
    pub condition: Option<Rc<Expr>>,
}

/// `encoder.dim`, `masks.*.area`, `masks.0`.
#[derive(Clone, Debug)]
pub struct Path {
    /// Names, whole numbers and `*`.
    pub parts: Vec<Word>,
    /// All of it.
    pub span: Span,
}

/// An expression.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it says.
    pub kind: ExprKind,
    /// Where.
    pub span: Span,
}

/// A named or positional argument, tuple item or bracket item.
#[derive(Clone, Debug)]
pub struct Arg {
    /// `name =` or `name:`.
    pub name: Option<Word>,
    /// True if the name was followed by `:` rather than `=`.
    pub colon: bool,
    /// The value.
    pub value: Rc<Expr>,
}

/// `i, z ~ masks` or `t in time`.
#[derive(Clone, Debug)]
pub struct Gen {
    /// One or two names.
    pub names: Vec<Word>,
    /// `~` rather than `in`.
    pub drawn: bool,
    /// What is run over.
    pub over: Rc<Expr>,
}

/// Expressions, precedence already resolved (LANGUAGE 3.13).
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// `24`, `6.25e-4`, `15%` (already divided by 100), `16 px`. `whole` if written without point or exponent and not `%`.
    Number {
        /// The value.
        value: f64,
        /// Written as a whole number.
        whole: bool,
        /// The unit, if any; `%` is not one.
        unit: Option<Word>,
    },
    /// `"bf16"`, escapes resolved.
    Text(Rc<str>),
    /// A name, also `none`, `true`, `all`, `pi`.
    Name(Rc<str>),
    /// `(a: 3, b)`; a single unnamed item in parentheses is just that item.
    Tuple(Vec<Arg>),
    /// `[a, b]`.
    List(Vec<Rc<Expr>>),
    /// `[ e for i in n, j in m ]`.
    Each(Rc<Expr>, Vec<Gen>),
    /// `a -> b -> c`.
    Arrow(Vec<Rc<Expr>>),
    /// `-x`.
    Neg(Rc<Expr>),
    /// `not x`.
    Not(Rc<Expr>),
    /// `a op b`.
    Binary(Op, Rc<Expr>, Rc<Expr>),
    /// `a if c else b`: condition, then, otherwise.
    If(Rc<Expr>, Rc<Expr>, Rc<Expr>),
    /// `f(args)`.
    Call(Rc<Expr>, Vec<Arg>),
    /// `x[items]`.
    Pick(Rc<Expr>, Vec<Arg>),
    /// `x.name` or `x.0`.
    Field(Rc<Expr>, Word),
    /// `x with { ... }`.
    With(Rc<Expr>, Rc<Body>),
}

/// Infix operators other than `->`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named after its sign")]
pub enum Op {
    Then,
    Over,
    Or,
    And,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    Range,
    RangeInclusive,
    Join,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Pow,
}
