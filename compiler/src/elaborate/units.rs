//! Units, and arithmetic on numbers that have them.

use super::value::{Num, Number};
use super::{Elab, Res};
use crate::diag::Diagnostic;
use crate::source::Span;
use crate::syntax::ast::{Op, Word};

/// Unit of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A bare number.
    None,
    /// A product of units: a plain count, whatever it is multiplied with.
    Product,
    /// Pixels.
    Px,
    /// Video frames.
    Frames,
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Frames a second.
    Fps,
    /// Optimiser steps.
    Steps,
    /// Passes over the data.
    Epochs,
    /// Clips.
    Clips,
}

/// All units as they are written.
pub const UNITS: [(&str, Unit); 8] = [
    ("px", Unit::Px),
    ("frames", Unit::Frames),
    ("s", Unit::S),
    ("ms", Unit::Ms),
    ("fps", Unit::Fps),
    ("steps", Unit::Steps),
    ("epochs", Unit::Epochs),
    ("clips", Unit::Clips),
];

impl Unit {
    /// As it is written; empty for a bare number.
    pub fn name(self) -> &'static str {
        UNITS.iter().find(|(_, u)| *u == self).map_or("", |(n, _)| n)
    }

    /// True for a unit that can disagree with another.
    pub fn is_some(self) -> bool {
        !matches!(self, Unit::None | Unit::Product)
    }
}

/// `224 px`, as messages show it.
pub fn show(n: Num) -> String {
    let value = match n.value {
        Number::Whole(n) => n.to_string(),
        Number::Real(x) => show_real(x),
    };
    if n.unit.is_some() { format!("{value} {}", n.unit.name()) } else { value }
}

/// A real number in few digits.
pub fn show_real(x: f64) -> String {
    if x == x.round() && x.abs() < 1e15 {
        return format!("{x:.1}");
    }
    let text = format!("{x:.4}");
    let short = text.trim_end_matches('0');
    if short.ends_with('.') || x.abs() < 1e-3 { format!("{x:e}") } else { short.to_string() }
}

impl Elab<'_> {
    /// The unit that a word means.
    pub fn unit(&self, word: &Word) -> Res<Unit> {
        let found = UNITS.iter().find(|(n, _)| *n == &*word.text).map(|(_, u)| *u);
        let singular =
            || UNITS.iter().find(|(n, _)| n.len() > 2 && n.strip_suffix('s') == Some(&*word.text)).map(|(_, u)| *u);
        if let Some(unit) = found.or_else(singular) {
            return Ok(unit);
        }
        let near = super::suggest::nearest(&word.text, UNITS.iter().map(|(n, _)| *n));
        let d = Diagnostic::error("V0303", format!("`{}` is not a unit", word.text), word.span, "unknown unit")
            .maybe_help(near.map(|n| format!("did you mean `{n}`?")))
            .note("units are px, frames, s, ms, fps, steps, epochs, clips and %")
            .note("two statements on one line need a comma between them when the first ends in a bare number");
        Err(self.fail(d))
    }

    /// `a op b` for two numbers; comparisons are handled by [`Elab::compare`].
    pub fn arithmetic(&self, op: Op, a: Num, b: Num, span: Span) -> Res<Num> {
        let mixed = a.unit.is_some() && b.unit.is_some() && a.unit != b.unit;
        if mixed && op != Op::Mul {
            let (x, y) = (show(a), show(b));
            let d = Diagnostic::error(
                "V0301",
                format!("`{x}` and `{y}` have different units"),
                span,
                "these do not combine",
            )
            .help(format!("give both sides the same unit, {} or {}", a.unit.name(), b.unit.name()));
            return Err(self.fail(d));
        }
        let unit = match op {
            Op::Mul if a.unit != Unit::None && b.unit != Unit::None => Unit::Product,
            Op::Div if b.unit.is_some() && a.unit.is_some() => Unit::None,
            Op::Div if a.unit == Unit::Product || b.unit == Unit::Product => Unit::Product,
            Op::Div => a.unit,
            Op::Pow if a.unit != Unit::None => Unit::Product,
            _ => {
                if a.unit.is_some() {
                    a.unit
                } else if b.unit.is_some() {
                    b.unit
                } else if a.unit == Unit::Product || b.unit == Unit::Product {
                    Unit::Product
                } else {
                    Unit::None
                }
            }
        };
        if matches!(op, Op::Div | Op::Rem) && b.value.real() == 0.0 {
            let d = Diagnostic::error("V0104", "division by zero", span, format!("{} here divides by zero", show(a)));
            return Err(self.fail(d));
        }
        Ok(Num { value: number(op, a.value, b.value), unit, axis: None })
    }

    /// `a op b` for a comparison.
    pub fn compare(&self, op: Op, a: Num, b: Num, span: Span) -> Res<bool> {
        if a.unit.is_some() && b.unit.is_some() && a.unit != b.unit {
            let (x, y) = (show(a), show(b));
            let d = Diagnostic::error("V0301", format!("`{x}` and `{y}` have different units"), span, "not comparable");
            return Err(self.fail(d));
        }
        let (x, y) = (a.value.real(), b.value.real());
        Ok(match op {
            Op::Eq => x == y,
            Op::Ne => x != y,
            Op::Lt => x < y,
            Op::Le => x <= y,
            Op::Gt => x > y,
            _ => x >= y,
        })
    }
}

/// The operation itself: exact while it can be.
pub fn number(op: Op, a: Number, b: Number) -> Number {
    if let (Number::Whole(x), Number::Whole(y)) = (a, b) {
        let exact = match op {
            Op::Add => x.checked_add(y),
            Op::Sub => x.checked_sub(y),
            Op::Mul => x.checked_mul(y),
            Op::Div => (y != 0 && x.checked_rem(y) == Some(0)).then(|| x / y),
            Op::Rem => x.checked_rem(y).map(|r| if r != 0 && (r < 0) != (y < 0) { r + y } else { r }),
            Op::Pow => u32::try_from(y).ok().and_then(|y| x.checked_pow(y)),
            _ => None,
        };
        if let Some(n) = exact {
            return Number::Whole(n);
        }
    }
    let (x, y) = (a.real(), b.real());
    Number::Real(match op {
        Op::Add => x + y,
        Op::Sub => x - y,
        Op::Mul => x * y,
        Op::Div => x / y,
        Op::Rem => x - y * (x / y).floor(),
        _ => libm::pow(x, y),
    })
}

/// A real number that is to be whole: exact if it fits.
pub fn whole(x: f64) -> Number {
    if x.abs() < 9e15 { Number::Whole(x as i64) } else { Number::Real(x) }
}
