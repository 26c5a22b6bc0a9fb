//! `with` on a value: a definition gets other defaults, an instance is made again with other settings.

use std::rc::Rc;

use super::scope::{ScopeKind, ScopeRef};
use super::value::{Change, ChangeTo, Closure, Instance, Maker, SettingChange, Value};
use super::{Elab, Res};
use crate::diag::Diagnostic;
use crate::source::Span;
use crate::syntax::ast::{Body, Expr, Stmt, StmtKind, Word};

impl Elab<'_> {
    /// `x with { ... }`.
    pub(super) fn with(&mut self, x: &Rc<Expr>, body: &Body, scope: &ScopeRef, span: Span) -> Res<Value> {
        let value = self.eval(x, scope)?;
        let changes = self.changes(body, scope)?;
        let shown = super::eval::dotted(x).unwrap_or_else(|| "this value".into());
        match value {
            Value::Def(c) => {
                let mut all = c.changes.clone();
                all.extend(changes);
                Ok(Value::Def(Rc::new(Closure { changes: all, ..(*c).clone() })))
            }
            Value::Builtin(_) => self.error("V0104", "a built-in has no settings to change", span, "cannot be changed"),
            mut value => {
                for change in changes {
                    let ChangeTo::Value(expr) = &change.what else {
                        return self.error("V0103", "only settings can be changed here", change.span, "not a setting");
                    };
                    let kind = ScopeKind::Dual(change.scope.clone());
                    let own = self.scope(kind, Some(scope));
                    let change = SettingChange {
                        path: change.path.clone(),
                        value: expr.clone(),
                        scope: own,
                        base: shown.clone(),
                        span: change.span,
                    };
                    value = self.amend(value, &change)?;
                }
                Ok(value)
            }
        }
    }

    /// The lines of a `with`, sections flattened into paths.
    pub(super) fn changes(&mut self, body: &Body, scope: &ScopeRef) -> Res<Vec<Change>> {
        self.groups += 1;
        let mut out = vec![];
        self.flatten(&body.stmts, &[], scope, &mut out)?;
        Ok(out)
    }

    fn flatten(&self, stmts: &[Rc<Stmt>], prefix: &[Word], scope: &ScopeRef, out: &mut Vec<Change>) -> Res<()> {
        for stmt in stmts {
            let make = |name: &[Word], what: ChangeTo, key: Option<Word>| Change {
                path: [prefix, name].concat(),
                what,
                key,
                scope: scope.clone(),
                span: stmt.span,
                group: self.groups,
                section: !prefix.is_empty(),
            };
            match &stmt.kind {
                StmtKind::Bind { targets, key, value, .. } => match &targets[..] {
                    [target] => out.push(make(&target.parts, ChangeTo::Value(value.clone()), key.clone())),
                    several => {
                        // One statement declares them all; it is listed under the first name.
                        let Some(first) = several.first() else { continue };
                        out.push(make(&first.parts, ChangeTo::Statement(stmt.clone()), None));
                    }
                },
                StmtKind::Section(name, body) => {
                    self.flatten(&body.stmts, &[prefix, std::slice::from_ref(name)].concat(), scope, out)?;
                }
                StmtKind::Metric(name, _) => {
                    let word = Word { text: format!("metric {}", name.text).into(), span: name.span };
                    out.push(make(&[word], ChangeTo::Statement(stmt.clone()), None));
                }
                StmtKind::Learn(learn) => {
                    out.push(make(std::slice::from_ref(&learn.name), ChangeTo::Statement(stmt.clone()), None))
                }
                StmtKind::Draw { name, .. } => {
                    out.push(make(std::slice::from_ref(name), ChangeTo::Statement(stmt.clone()), None))
                }
                StmtKind::Forward(..) => {
                    let word = Word { text: "forward".into(), span: stmt.span };
                    out.push(make(&[word], ChangeTo::Statement(stmt.clone()), None));
                }
                StmtKind::Require(..) => {
                    let word = Word { text: "require".into(), span: stmt.span };
                    out.push(make(&[word], ChangeTo::Statement(stmt.clone()), None));
                }
                StmtKind::Return(_) => {
                    return self.error(
                        "V0103",
                        "`with` changes fields and settings; there is nothing to return",
                        stmt.span,
                        "not allowed here",
                    );
                }
            }
        }
        Ok(())
    }

    /// The value with one setting changed, however deep.
    pub(super) fn amend(&mut self, value: Value, change: &SettingChange) -> Res<Value> {
        let head = &change.path[0];
        match value {
            Value::Instance(i) => Ok(Value::Instance(self.amend_instance(&i, change)?)),
            Value::Source(i) => Ok(Value::Source(self.amend_instance(&i, change)?)),
            Value::List(items) => {
                let mut out = items.to_vec();
                let which: Vec<usize> = match &*head.text {
                    "*" => (0..out.len()).collect(),
                    n => match n.parse::<usize>() {
                        Ok(i) if i < out.len() => vec![i],
                        _ => {
                            let text =
                                format!("`{}` is a list of {} items, so it has no `{n}`", change.base, out.len());
                            let d = Diagnostic::error("V0103", text, head.span, "not in the list");
                            return Err(
                                self.fail(d.help("write a position, as in `masks.0.area`, or `*` for all items"))
                            );
                        }
                    },
                };
                if change.path.len() == 1 {
                    let new = self.eval(&change.value, &change.scope)?;
                    for i in which {
                        out[i] = new.clone();
                    }
                    return Ok(Value::List(Rc::new(out)));
                }
                for i in which {
                    let base: Rc<str> = format!("{}.{i}", change.base).into();
                    let rest = SettingChange { path: change.path[1..].to_vec(), base, ..change.clone() };
                    out[i] = self.amend(out[i].clone(), &rest)?;
                }
                Ok(Value::List(Rc::new(out)))
            }
            Value::Def(c) => {
                let mut changes = c.changes.clone();
                changes.push(Change {
                    path: change.path.clone(),
                    what: ChangeTo::Value(change.value.clone()),
                    key: None,
                    scope: change.scope.clone(),
                    span: change.span,
                    group: 0,
                    section: false,
                });
                Ok(Value::Def(Rc::new(Closure { changes, ..(*c).clone() })))
            }
            other => self.no_settings(&change.base, &other, head.span),
        }
    }

    fn no_settings(&self, base: &str, value: &Value, span: Span) -> Res<Value> {
        self.error(
            "V0103",
            format!("`{base}` is {}, which has no settings", value.kind()),
            span,
            "cannot be changed this way",
        )
    }

    fn amend_instance(&mut self, instance: &Rc<Instance>, change: &SettingChange) -> Res<Rc<Instance>> {
        let mut changes = instance.maker.changes.clone();
        changes.push(change.clone());
        let maker = Maker { changes, ..instance.maker.clone() };
        self.instantiate(maker, instance.role)
    }
}
