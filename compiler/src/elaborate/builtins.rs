//! Built-in names, and what the built-in records (sources, optimisers) take.

use std::rc::Rc;

use super::scope::{Scope, ScopeKind, ScopeRef, Thunk};
use super::units::Unit;
use super::value::{Maker, Num, Number, Value};
use super::{Elab, Res, suggest};
use crate::diag::Diagnostic;
use crate::ir::op::Dist;

/// A built-in that is made of settings.
#[derive(Debug)]
pub struct Record {
    /// Its name.
    pub name: &'static str,
    /// Names data.
    pub source: bool,
    /// Settings, with defaults; `None` must be given.
    pub settings: &'static [(&'static str, Option<Default>)],
}

/// A default of a built-in.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// A whole number with its unit.
    Whole(i64, Unit),
    /// A number.
    Real(f64),
    /// False.
    No,
    /// `none`.
    Nothing,
}

impl Default {
    fn value(self) -> Value {
        match self {
            Default::Whole(n, unit) => Value::Num(Num { unit, ..Num::whole(n) }),
            Default::Real(x) => Value::Num(Num { value: Number::Real(x), unit: Unit::None, axis: None }),
            Default::No => Value::Bool(false),
            Default::Nothing => Value::None,
        }
    }
}

/// Sources and optimisers.
pub static RECORDS: [Record; 5] = [
    Record {
        name: "video",
        source: true,
        settings: &[
            ("frames", Some(Default::Whole(16, Unit::Frames))),
            ("every", Some(Default::Whole(1, Unit::Frames))),
            ("rate", Some(Default::Nothing)),
            ("size", Some(Default::Whole(224, Unit::Px))),
            ("crop", Some(Default::Nothing)),
            ("aspect", Some(Default::Nothing)),
            ("flip", Some(Default::No)),
        ],
    },
    Record {
        name: "image",
        source: true,
        settings: &[
            ("size", Some(Default::Whole(224, Unit::Px))),
            ("crop", Some(Default::Nothing)),
            ("aspect", Some(Default::Nothing)),
            ("flip", Some(Default::No)),
        ],
    },
    Record { name: "label", source: true, settings: &[("classes", None)] },
    Record {
        name: "adamw",
        source: false,
        settings: &[
            ("lr", None),
            ("decay", Some(Default::Real(0.0))),
            ("betas", Some(Default::Nothing)),
            ("eps", Some(Default::Real(1e-8))),
        ],
    },
    Record {
        name: "sgd",
        source: false,
        settings: &[("lr", None), ("momentum", Some(Default::Real(0.0))), ("decay", Some(Default::Real(0.0)))],
    },
];

/// Every built-in name.
pub const NAMES: [&str; 50] = [
    "exp",
    "log",
    "sqrt",
    "abs",
    "sin",
    "cos",
    "tanh",
    "erf",
    "floor",
    "ceil",
    "round",
    "sign",
    "min",
    "max",
    "sum",
    "mean",
    "any",
    "all",
    "var",
    "count",
    "argmax",
    "dot",
    "unstack",
    "stack",
    "one_hot",
    "coords",
    "len",
    "stop",
    "spread",
    "ema",
    "frozen",
    "video",
    "image",
    "label",
    "adamw",
    "sgd",
    "normal",
    "trunc_normal",
    "bernoulli",
    "permutation",
    "pi",
    "inf",
    "none",
    "true",
    "false",
    "px",
    "frames",
    "steps",
    "epochs",
    "clips",
];
/// The last names of [`NAMES`] are units: near misses are suggested, but they are not values.
const UNIT_NAMES: usize = 5;

/// The value of a built-in name.
pub fn constant(name: &str) -> Option<Value> {
    Some(match name {
        "pi" => Value::Num(Num::real(std::f64::consts::PI)),
        "inf" => Value::Num(Num::real(f64::INFINITY)),
        "none" => Value::None,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "permutation" => Value::Dist(Dist::Permutation, Rc::new(vec![])),
        _ => Value::Builtin(NAMES[..NAMES.len() - UNIT_NAMES].iter().find(|n| **n == name)?),
    })
}

/// The record of that name.
pub fn record(name: &str) -> Option<&'static Record> {
    RECORDS.iter().find(|r| r.name == name)
}

impl Elab<'_> {
    /// Settings of a built-in record.
    pub(super) fn builtin_header(&mut self, record: &'static Record, maker: &Maker) -> Res<ScopeRef> {
        let header = self.scope(ScopeKind::Header, Some(&Scope::new(ScopeKind::Section, None)));
        let names = || record.settings.iter().map(|(n, _)| *n);
        for (name, default) in record.settings {
            match default {
                Some(d) => header.set(&Rc::from(*name), Thunk::ready(d.value())),
                None if maker.args.iter().any(|a| a.name.as_ref().is_some_and(|w| &*w.text == *name)) => {}
                None => {
                    let text = format!("`{}` needs a value for `{name}`", record.name);
                    return self.error("V0108", text, maker.span, format!("`{name}` is missing"));
                }
            }
        }
        for arg in maker.args.iter() {
            let Some(word) = &arg.name else {
                let text = format!("settings of `{}` are given by name", record.name);
                let d = Diagnostic::error("V0108", text, arg.value.span, "which setting?");
                return Err(self.fail(d.note(format!(
                    "`{}` takes {}",
                    record.name,
                    names().collect::<Vec<_>>().join(", ")
                ))));
            };
            if arg.colon {
                let d = Diagnostic::error(
                    "V0001",
                    "settings are passed with `=`, not `:`",
                    word.span,
                    format!("write `{} = ...`", word.text),
                );
                return Err(self.fail(d));
            }
            let Some((name, default)) = record.settings.iter().find(|(n, _)| *n == &*word.text) else {
                let near = match &*word.text {
                    "weight_decay" => Some("decay"),
                    "fps" => Some("rate"),
                    "stride" => Some("every"),
                    text => suggest::nearest(text, names()),
                };
                let text = format!("`{}` has no setting called `{}`", record.name, word.text);
                let d = Diagnostic::error("V0101", text, word.span, format!("not a setting of `{}`", record.name));
                let d = d.maybe_help(near.map(|n| format!("did you mean `{n}`?")));
                return Err(self.fail(d.note(format!(
                    "`{}` takes {}",
                    record.name,
                    names().collect::<Vec<_>>().join(", ")
                ))));
            };
            let (expr, scope, default) = (arg.value.clone(), maker.scope.clone(), default.map(Default::value));
            let path = format!("{}.{name}", record.name);
            header.set(
                &Rc::from(*name),
                self.thunk(move |elab| {
                    let value = elab.eval(&expr, &scope)?;
                    let value = match &default {
                        Some(d @ Value::Num(_)) => elab.keep_kind(&path, Some(d), value, expr.span)?,
                        _ => value,
                    };
                    // Settings of sources always make their own axis: `frames`, `classes`.
                    Ok(elab.as_setting(name, value, false))
                }),
            );
        }
        Ok(header)
    }
}
