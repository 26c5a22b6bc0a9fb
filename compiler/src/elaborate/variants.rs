//! Models and their chain of `with`: file, then each variant, then sweep, then `--set`; the last line wins.

use std::cell::RefCell;
use std::rc::Rc;

use super::eval::is_path;
use super::reads::{TRAIN_KEYS, names_read, visit};
use super::scope::{ScopeKind, ScopeRef, Thunk};
use super::value::{Change, ChangeTo, Closure, Home, Instance, Maker, Role, SettingChange, Value, What};
use super::{Elab, Res, Stop, suggest};
use crate::diag::Diagnostic;
use crate::syntax::ast::{DefValue, Expr, ExprKind, Kind, StmtKind, Word};

impl Elab<'_> {
    /// A definition that is an expression (`model b = a with { ... }`), followed to the one with a body.
    pub(super) fn resolve(&mut self, closure: &Rc<Closure>) -> Res<Rc<Closure>> {
        match closure.def.kind {
            Kind::Fn => return Ok(closure.clone()),
            Kind::Block | Kind::Mask => return self.derived(closure),
            Kind::Model => {}
        }
        let DefValue::Expr(expr) = &closure.def.value else { return Ok(closure.clone()) };
        let def = closure.def.clone();
        let value = self.expand(&def, def.name.span, |elab| elab.eval(expr, &closure.file))?;
        let base = match value {
            Value::Def(base) if base.def.kind == def.kind => base,
            other => {
                let text = format!(
                    "`{}` must be made from another {}, found {}",
                    def.name.text,
                    kind_name(def.kind),
                    other.kind()
                );
                return self.error("V0104", text, expr.span, format!("not a {}", kind_name(def.kind)));
            }
        };
        let base = self.expand(&def, def.name.span, |elab| elab.resolve(&base))?;
        let mut changes = base.changes.clone();
        changes.extend(closure.changes.iter().cloned());
        Ok(Rc::new(Closure { changes, ..(*base).clone() }))
    }

    /// The model of a definition; made once.
    pub(super) fn model_of(&mut self, closure: &Rc<Closure>) -> Res<Rc<Instance>> {
        if let Some((_, model)) = self.models.iter().find(|(c, _)| Rc::ptr_eq(c, closure)) {
            return Ok(model.clone());
        }
        let base = self.resolve(closure)?;
        let DefValue::Body(stmts) = &base.def.value else {
            return self.error("V0111", "this model has no body", base.def.name.span, "defined here");
        };
        let header = self.scope(ScopeKind::Header, Some(&base.file));
        let home =
            Home { model: self.next_model, place: "".into(), key: "".into(), root: "".into(), role: Role::Trained };
        self.next_model += 1;
        let maker = Maker {
            what: What::Def(base.clone()),
            args: Rc::from([]),
            scope: base.file.clone(),
            span: base.def.name.span,
            changes: vec![],
        };
        let model = Rc::new(Instance {
            maker,
            header: header.clone(),
            alias: RefCell::default(),
            private: RefCell::default(),
            body: RefCell::default(),
            home: RefCell::new(Some(home)),
            role: None,
            tensor: RefCell::default(),
        });
        let body = self.scope(ScopeKind::Body(model.clone()), Some(&header));
        *model.body.borrow_mut() = Some(body.clone());
        self.fill(&body, stmts, Some(&model))?;
        for change in &base.changes {
            self.change_model(&model, &body, change, &base.changes)?;
        }
        self.models.push((closure.clone(), model.clone()));
        Ok(model)
    }

    fn change_model(&mut self, model: &Rc<Instance>, body: &ScopeRef, change: &Change, all: &[Change]) -> Res<()> {
        let head = &change.path[0];
        let old = body.get(&head.text);
        let dual = self.scope(ScopeKind::Dual(change.scope.clone()), Some(body));
        let key = self.stored_key(model, change);
        match (&change.path[1..], &change.what) {
            ([], ChangeTo::Statement(stmt)) => {
                if matches!(stmt.kind, StmtKind::Require(..)) {
                    return Ok(()); // checked with what the model itself requires
                }
                if matches!(stmt.kind, StmtKind::Forward(..)) {
                    let text = format!("`{}` cannot be changed in a model", head.text);
                    return self.error("V0103", text, change.span, "not allowed here");
                }
                self.declare(body, stmt, Some(model), &dual)
            }
            ([], ChangeTo::Value(expr)) => {
                if old.is_none() && !is_root(&head.text) && !read_by_another(change, all) {
                    return Err(self.unread_field(model, body, head));
                }
                let kind = ScopeKind::Own {
                    name: Some(head.text.clone()),
                    path: head.text.clone(),
                    old,
                    written: change.scope.clone(),
                };
                let scope = self.scope(kind, Some(&dual));
                let (expr, field, owner) = (expr.clone(), head.text.clone(), model.clone());
                self.declare_factors(body, &head.text, &expr);
                body.set(
                    &head.text,
                    self.thunk(move |elab| {
                        let value = elab.eval(&expr, &scope)?;
                        elab.check_sizes(&value, &expr, &scope)?;
                        let value = elab.bound(&field, value, expr.span)?;
                        elab.adopt(value, Some(&owner), &field, &key)
                    }),
                );
                Ok(())
            }
            (_, ChangeTo::Statement(_)) => {
                self.error("V0103", "only settings can be changed here", change.span, "not a setting")
            }
            (rest, ChangeTo::Value(expr)) => {
                let section = || change.section && read_elsewhere(change, &head.text, all);
                let old = match old {
                    Some(old) => old,
                    None if section() => {
                        let section = self.scope(ScopeKind::Section, Some(body));
                        body.set(&head.text, Thunk::ready(Value::Section(section.clone())));
                        return self.change_section(&section, head, change, expr, all);
                    }
                    None => return Err(self.unread_field(model, body, head)),
                };
                if let Some(Value::Section(section)) = old.peek() {
                    return self.change_section(&section, head, change, expr, all);
                }
                let change = SettingChange {
                    path: rest.to_vec(),
                    value: expr.clone(),
                    scope: dual,
                    base: head.text.clone(),
                    span: change.span,
                };
                let (field, owner) = (head.text.clone(), model.clone());
                body.set(
                    &head.text,
                    self.thunk(move |elab| {
                        let value = old.force(elab)?;
                        let value = elab.amend(value, &change)?;
                        elab.adopt(value, Some(&owner), &field, &key)
                    }),
                );
                Ok(())
            }
        }
    }

    /// The name under which a field is stored: a line may give one, else the field keeps what it had.
    fn stored_key(&self, model: &Rc<Instance>, change: &Change) -> Rc<str> {
        if let Some(key) = &change.key {
            return key.text.clone();
        }
        let head = &change.path[0].text;
        let What::Def(closure) = &model.maker.what else { return head.clone() };
        let DefValue::Body(body) = &closure.def.value else { return head.clone() };
        let found = body.stmts.iter().find_map(|s| match &s.kind {
            StmtKind::Bind { targets, key, .. } if targets.len() == 1 && targets[0].parts[0].text == *head => {
                key.clone()
            }
            _ => None,
        });
        found.map_or_else(|| head.clone(), |k| k.text)
    }

    fn unread_field(&self, model: &Rc<Instance>, body: &ScopeRef, head: &Word) -> Stop {
        let known = body.names();
        let near = suggest::nearest(&head.text, known.iter().map(|n| &**n)).map(|n| format!("did you mean `{n}`?"));
        let text = format!("`{}` has no field called `{}`", model.name(), head.text);
        let d =
            Diagnostic::error("V0103", text, head.span, "nothing here reads this field, so it would change nothing");
        self.fail(
            d.maybe_help(near).note("`with` may add a new field only when another field in the same `with` uses it"),
        )
    }

    fn change_section(
        &mut self,
        section: &ScopeRef,
        name: &Word,
        change: &Change,
        expr: &Rc<Expr>,
        all: &[Change],
    ) -> Res<()> {
        let key = &change.path[1];
        let old = section.get(&key.text);
        let known = &*name.text == "train" && TRAIN_KEYS.contains(&&*key.text);
        if old.is_none() && !known && (change.path.len() > 2 || !read_by_another(change, all)) {
            return Err(self.no_field(&name.text, key, &section.names()));
        }
        let path: Rc<str> = format!("{}.{}", name.text, key.text).into();
        let dual = self.scope(ScopeKind::Dual(change.scope.clone()), Some(section));
        if change.path.len() > 2 {
            let Some(old) = old else { return Err(self.no_field(&name.text, key, &section.names())) };
            let change = SettingChange {
                path: change.path[2..].to_vec(),
                value: expr.clone(),
                scope: dual,
                base: path,
                span: change.span,
            };
            section.set(
                &key.text,
                self.thunk(move |elab| {
                    let value = old.force(elab)?;
                    elab.amend(value, &change)
                }),
            );
            return Ok(());
        }
        let kind = ScopeKind::Own {
            name: Some(key.text.clone()),
            path: path.clone(),
            old: old.clone(),
            written: change.scope.clone(),
        };
        let scope = self.scope(kind, Some(&dual));
        section.set_origin(&key.text, expr, &dual);
        let (expr, field) = (expr.clone(), key.text.clone());
        section.set(
            &key.text,
            self.thunk(move |elab| {
                let value = elab.eval(&expr, &scope)?;
                let before = old.as_ref().and_then(|o| o.force(elab).ok()).filter(|v| matches!(v, Value::Num(_)));
                let value = elab.keep_kind(&path, before.as_ref(), value, expr.span)?;
                Ok(elab.as_setting(&field, value, is_path(&expr)))
            }),
        );
        Ok(())
    }
}

/// The keyword of a kind of definition.
pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Fn => "fn",
        Kind::Block => "block",
        Kind::Mask => "mask",
        Kind::Model => "model",
    }
}

/// Fields of a model that have a meaning of their own.
fn is_root(name: &str) -> bool {
    matches!(name, "loss" | "backbone" | "train") || name.starts_with("metric ")
}

/// True if another line of the same `with` mentions the field.
fn read_by_another(change: &Change, all: &[Change]) -> bool {
    read_elsewhere(change, &change.path[change.path.len().min(2) - 1].text, all)
}

fn read_elsewhere(change: &Change, name: &Rc<str>, all: &[Change]) -> bool {
    all.iter().filter(|c| c.group == change.group && c.span != change.span).any(|c| match &c.what {
        ChangeTo::Statement(stmt) => names_read(stmt).contains(name),
        ChangeTo::Value(expr) => {
            let mut found = false;
            visit(expr, &mut |e| match &e.kind {
                ExprKind::Name(n) => found |= n == name,
                ExprKind::Field(_, w) => found |= w.text == *name,
                _ => {}
            });
            found
        }
    })
}
