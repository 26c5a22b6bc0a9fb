//! Taps: a result of a block remembers the `forward` that made it, and what its equations and parts gave can be read
//! from it: `encoder(clip).blocks[11].attn.score`.
//!
//! Nothing is computed for it: an equation that nothing read is computed when a tap asks for it, and what nobody asks
//! for is not in the model. Values come out under the caller's axes, through every call between the tap and its value.

use std::rc::Rc;

use super::scope::{ScopeRef, equations};
use super::value::{Made, Value};
use super::{Elab, Res, suggest};
use crate::diag::Diagnostic;
use crate::model::AxisId;
use crate::source::Span;
use crate::syntax::ast::{Expr, ExprKind, Word};

impl Elab<'_> {
    /// `r.name`: what that equation gave in the `forward` that made r, or what that part returned there.
    pub(super) fn tapped(&mut self, made: &Rc<Made>, name: &Word) -> Res<Value> {
        let value = match made.scope.get(&name.text) {
            Some(thunk) => self.force_named(&thunk, &name.text, name.span)?,
            None => self.returned(made, name)?,
        };
        Ok(self.outward(value, &made.back, name.span))
    }

    /// What the only call of a part gave.
    fn returned(&mut self, made: &Rc<Made>, name: &Word) -> Res<Value> {
        let mut calls = made.scope.calls_of(&name.text);
        if calls.is_empty() {
            // The call may stand in an equation that nothing has read yet.
            for equation in made.scope.names() {
                if let Some(thunk) = made.scope.get(&equation)
                    && thunk.peek().is_none()
                {
                    self.force_named(&thunk, &equation, name.span)?;
                }
            }
            calls = made.scope.calls_of(&name.text);
        }
        match &calls[..] {
            [only] => Ok(only.clone()),
            [] => Err(self.not_computed(made, name)),
            several => {
                let text = format!("`{}` calls `{}` {} times", made.block, name.text, several.len());
                let d = Diagnostic::error("V0103", text, name.span, "which of the calls?");
                Err(self.fail(
                    d.help(format!("give the calls names there: `first = {}(...)`, and read `.first`", name.text)),
                ))
            }
        }
    }

    fn not_computed(&self, made: &Rc<Made>, name: &Word) -> super::Stop {
        let mut known = made.scope.names();
        known.extend(made.scope.called());
        if made.scope.parent.as_ref().is_some_and(|p| p.field(&name.text).is_some()) {
            let text = format!("`{}` of `{}` was not called when this was computed", name.text, made.block);
            let d = Diagnostic::error("V0103", text, name.span, "nothing to read");
            return self.fail(d.note(format!("it computed {}", known.join(", "))));
        }
        let near = suggest::nearest(&name.text, known.iter().map(|n| &**n)).map(|n| format!("did you mean `{n}`?"));
        let text = format!("the `forward` of `{}` has no equation and calls no part `{}`", made.block, name.text);
        let d = Diagnostic::error("V0103", text, name.span, "not computed there").maybe_help(near);
        self.fail(d.note(format!("it computed {}", known.join(", "))))
    }

    /// A value of a `forward` under the axes of those who called it.
    fn outward(&mut self, value: Value, back: &[Vec<(AxisId, AxisId)>], span: Span) -> Value {
        match value {
            Value::Tensor(t) => {
                let made = t.made.as_ref().map(|made| {
                    let back = made.back.iter().chain(back).cloned().collect();
                    Rc::new(Made { scope: made.scope.clone(), block: made.block.clone(), back })
                });
                let mut t = t;
                for swaps in back {
                    t = self.relabel_all(&t, swaps, span);
                }
                t.made = made;
                Value::Tensor(t)
            }
            Value::List(items) => {
                Value::List(Rc::new(items.iter().map(|v| self.outward(v.clone(), back, span)).collect()))
            }
            other => other,
        }
    }
}

/// Notes what a part returned, if it was called by its name among the equations of a `forward`.
pub fn note(called: &Expr, result: impl FnOnce() -> Value, scope: &ScopeRef) {
    let name = match &called.kind {
        ExprKind::Name(name) => name,
        ExprKind::Pick(part, _) => match &part.kind {
            ExprKind::Name(name) => name,
            _ => return,
        },
        _ => return,
    };
    if let Some(equations) = equations(scope) {
        equations.note_call(name, result());
    }
}
