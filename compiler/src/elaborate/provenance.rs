//! Where a value was set: for messages that must show both places when two values disagree.

use std::rc::Rc;

use super::Elab;
use super::scope::{ScopeKind, ScopeRef};
use super::units::show;
use super::value::{Num, Number, Value};
use crate::diag::Diagnostic;
use crate::source::Span;
use crate::syntax::ast::{Expr, ExprKind, Op};

impl Elab<'_> {
    /// The expression that gave a name its value, through settings that were passed on by name.
    pub(super) fn origin(&mut self, scope: &ScopeRef, name: &str) -> Option<Span> {
        let mut at = scope.clone();
        loop {
            let skipped = matches!(&at.kind, ScopeKind::Skip(_, n) if &**n == name);
            if skipped && let Some(outer) = at.parent.as_ref().and_then(|p| p.parent.clone()) {
                at = outer;
                continue;
            }
            if let Some((expr, written)) = at.origin(name) {
                let computed = matches!(at.kind, ScopeKind::Body(_)) && !matches!(expr.kind, ExprKind::Number { .. });
                return self.origin_of(&expr, &written).or(if computed { None } else { Some(expr.span) });
            }
            if at.get(name).is_some() {
                return None;
            }
            at = at.parent.clone()?;
        }
    }

    /// Follows a bare name or a path to where its value is written.
    pub(super) fn origin_of(&mut self, expr: &Rc<Expr>, scope: &ScopeRef) -> Option<Span> {
        match &expr.kind {
            ExprKind::Name(n) => self.origin(scope, n),
            ExprKind::Field(x, word) => match self.eval(x, scope).ok()? {
                Value::Instance(i) | Value::Source(i) => self.origin(&i.header, &word.text),
                _ => None,
            },
            ExprKind::Number { .. } => Some(expr.span),
            _ => None,
        }
    }

    /// A condition that does not hold: shows where the numbers in it were set, what the reader changed last first,
    /// and what would satisfy `a % b == 0`.
    pub(super) fn unmet(&mut self, text: String, who: &str, cond: &Rc<Expr>, scope: &ScopeRef) -> Diagnostic {
        let mut places: Vec<(Span, String)> = vec![];
        let mut notes = vec![];
        for name in super::instances::names_in(cond) {
            let Some(Value::Num(n)) = scope.field(&name).and_then(|t| t.force(self).ok()) else { continue };
            match self.origin(scope, &name) {
                Some(span) if !self.in_std(span) => places.push((span, format!("`{name}` is {}, set here", show(n)))),
                _ => notes.push(format!("{name} = {}", show(n))),
            }
        }
        // The command line comes before the file that was asked for, and that before what it imports.
        places.sort_by_key(|(span, _)| (self.sources.get(span.file).path != "command line", span.file));
        places.dedup_by_key(|(span, _)| *span);
        let mut places = places.into_iter();
        let mut d = match places.next() {
            Some((span, label)) => Diagnostic::error("V0201", text, span, label),
            None => {
                let span = self.site_outside_std().unwrap_or(cond.span);
                Diagnostic::error("V0201", text, span, format!("in this call of `{who}`"))
            }
        };
        for (span, label) in places {
            d = d.label(span, label);
        }
        for note in notes {
            d = d.note(note);
        }
        if let ExprKind::Binary(Op::Eq, left, _) = &cond.kind
            && let ExprKind::Binary(Op::Rem, a, b) = &left.kind
            && let (Ok(Value::Num(a)), Ok(Value::Num(b))) = (self.eval(a, scope), self.eval(b, scope))
        {
            d = d.maybe_help(nearest_divisors(a, b));
        }
        d
    }

    /// A size that should have been whole: shows the division, what would divide, and where the divisor was set.
    pub(super) fn uneven(&mut self, name: &str, item: &Rc<Expr>, scope: &ScopeRef, size: f64) -> Diagnostic {
        let shown = super::units::show_real(size);
        let text = format!("axis `{name}` would have {shown} positions, which is not a whole number");
        let ExprKind::Binary(Op::Div, a, b) = &item.kind else {
            return Diagnostic::error("V0202", text, item.span, format!("this is {shown}"));
        };
        let (Ok(Value::Num(x)), Ok(Value::Num(y))) = (self.eval(a, scope), self.eval(b, scope)) else {
            return Diagnostic::error("V0202", text, item.span, format!("this is {shown}"));
        };
        let d = Diagnostic::error("V0202", text, item.span, format!("{} / {} = {shown}", show(x), show(y)));
        let d = d.maybe_help(nearest_divisors(x, y));
        match self.origin_of(b, scope).filter(|s| *s != b.span) {
            Some(span) => d.label(span, format!("{}, set here", show(y))),
            None => d,
        }
    }
}

/// `the nearest numbers that divide 224 px are 14 px and 16 px`.
fn nearest_divisors(a: Num, b: Num) -> Option<String> {
    let (Number::Whole(x), Number::Whole(y)) = (a.value, b.value) else { return None };
    if x <= 0 || y <= 0 {
        return None;
    }
    let as_b = |n: i64| show(Num { value: Number::Whole(n), ..b });
    let below = (1..y.min(x + 1)).rev().find(|n| x % n == 0);
    let above = (y + 1..=x).find(|n| x % n == 0);
    match (below, above) {
        (Some(p), Some(q)) => {
            Some(format!("the nearest numbers that divide {} are {} and {}", show(a), as_b(p), as_b(q)))
        }
        (Some(p), None) => Some(format!("the nearest number that divides {} is {}", show(a), as_b(p))),
        (None, Some(q)) => Some(format!("the nearest number that divides {} is {}", show(a), as_b(q))),
        (None, None) => None,
    }
}
