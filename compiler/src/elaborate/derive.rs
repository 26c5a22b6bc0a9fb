//! Variants of blocks and masks: `block b(more settings) = base with { ... }`.
//!
//! A line replaces the statement or the setting of its name, or adds one that something reads. The result is an
//! ordinary definition: the base's statements with the new ones in their places, the base's settings with the new ones
//! behind them. Each line keeps the scope in which it stands ([`Line`]), so that its names mean what they mean there
//! once the definition's own have been looked at. What is left in the closure's changes are values of settings.

use std::rc::Rc;

use super::reads::{defined, names_read, visit_stmt};
use super::scope::{ScopeKind, ScopeRef};
use super::value::{Change, ChangeTo, Closure, Line, Value};
use super::variants::kind_name;
use super::{Elab, Res, suggest};
use crate::diag::Diagnostic;
use crate::source::Span;
use crate::syntax::ast::{Body, Def, DefValue, ExprKind, Formal, Kind, Learn, Path, Stmt, StmtKind, Word};

impl Elab<'_> {
    /// A block or mask with every `with` line in its place.
    pub(super) fn derived(&mut self, closure: &Rc<Closure>) -> Res<Rc<Closure>> {
        let def = closure.def.clone();
        let DefValue::Expr(expr) = &def.value else { return self.placed(closure) };
        let known = self.derived.iter().find(|(d, _)| Rc::ptr_eq(d, &def)).map(|(_, c)| c.clone());
        let written = match known {
            Some(done) => done,
            None => {
                let value = self.expand(&def, def.name.span, |elab| elab.eval(expr, &closure.file))?;
                let base = match value {
                    Value::Def(base) if base.def.kind == def.kind => base,
                    other => return self.not_a_base(&def, &other, expr.span),
                };
                let base = self.expand(&def, def.name.span, |elab| elab.derived(&base))?;
                let done = Rc::new(with_header(&base, &def, &closure.file));
                self.derived.push((def.clone(), done.clone()));
                done
            }
        };
        if closure.changes.is_empty() {
            return Ok(written);
        }
        let mut changes = written.changes.clone();
        changes.extend(closure.changes.iter().cloned());
        self.placed(&Rc::new(Closure { changes, ..(*written).clone() }))
    }

    /// Puts the changes of a definition that has a body in their places.
    fn placed(&mut self, closure: &Rc<Closure>) -> Res<Rc<Closure>> {
        let def = &closure.def;
        let DefValue::Body(body) = &def.value else { return Ok(closure.clone()) };
        if closure.changes.iter().all(|c| is_setting(def, &c.path[0].text) && matches!(c.what, ChangeTo::Value(_))) {
            return Ok(closure.clone());
        }
        let mut draft =
            Draft { stmts: body.stmts.clone(), lines: closure.lines.clone(), settings: vec![], added: vec![] };
        for change in &closure.changes {
            let head = &change.path[0];
            match &change.what {
                ChangeTo::Value(_) if is_setting(def, &head.text) => draft.settings.push(change.clone()),
                ChangeTo::Value(_) if change.group == 0 => return Err(self.no_setting(def, head)),
                _ if change.path.len() > 1 => return Err(self.inside_part(def, change, &draft)),
                ChangeTo::Value(value) => {
                    let target = Path { parts: vec![head.clone()], span: head.span };
                    let (targets, key) = (vec![target], change.key.clone());
                    let kind = StmtKind::Bind { targets, key, kind: None, value: value.clone() };
                    draft.place(Rc::new(Stmt { kind, allow: vec![], span: change.span }), change);
                }
                ChangeTo::Statement(stmt) => {
                    self.fits(def, stmt)?;
                    draft.place(stmt.clone(), change);
                }
            }
        }
        for (name, span) in &draft.added {
            let read = |s: &Rc<Stmt>| s.span != *span && names_read(s).contains(&name.text);
            if !name.text.starts_with('_') && !draft.stmts.iter().any(read) {
                return Err(self.unread_line(def, name, &draft));
            }
        }
        let body = Rc::new(Body { stmts: draft.stmts, span: body.span });
        let def = Rc::new(Def { value: DefValue::Body(body), ..(**def).clone() });
        Ok(Rc::new(Closure { def, changes: draft.settings, lines: draft.lines, file: closure.file.clone() }))
    }

    /// Statements that a block or mask can hold.
    fn fits(&self, def: &Def, stmt: &Stmt) -> Res<()> {
        let (what, help) = match &stmt.kind {
            StmtKind::Metric(..) => ("a metric", "give the metric to the model: `metric name = ...`"),
            StmtKind::Forward(..) if def.kind == Kind::Mask => {
                ("a `forward`", "a mask says what `context` and `target` are")
            }
            StmtKind::Learn(l) if def.kind == Kind::Mask => (
                if l.trained { "a `param`" } else { "a `buffer`" },
                "a mask stores nothing; draw with `~`, or compute with `=`",
            ),
            StmtKind::Draw { name, .. } | StmtKind::Learn(Learn { name, .. }) if is_setting(def, &name.text) => {
                let text =
                    format!("`{}` is a setting of `{}`, and settings are given with `=`", name.text, def.name.text);
                return self.error("V0103", text, name.span, "a setting");
            }
            _ => return Ok(()),
        };
        let text = format!("{} `{}` has no place for {what}", kind_name(def.kind), def.name.text);
        Err(self.fail(Diagnostic::error("V0103", text, stmt.span, "not allowed here").help(help)))
    }

    fn not_a_base(&self, def: &Def, found: &Value, span: Span) -> Res<Rc<Closure>> {
        let kind = kind_name(def.kind);
        let text = format!("`{}` must be made from another {kind}, found {}", def.name.text, found.kind());
        let d = Diagnostic::error("V0104", text, span, format!("not a {kind}"));
        Err(self.fail(d.help(format!("write `{kind} {} = base with {{ ... }}`", def.name.text))))
    }

    fn no_setting(&self, def: &Def, head: &Word) -> super::Stop {
        let known = settings(def);
        let near = suggest::nearest(&head.text, known.iter().map(|n| &**n)).map(|n| format!("did you mean `{n}`?"));
        let text = format!("`{}` has no setting called `{}`", def.name.text, head.text);
        let d = Diagnostic::error("V0101", text, head.span, format!("not a setting of `{}`", def.name.text));
        self.fail(d.maybe_help(near).note(super::settings::takes(&def.name.text, &def.formals)))
    }

    /// `attn.heads = 3` in a `with`, where `attn` is a part and not a setting.
    fn inside_part(&self, def: &Def, change: &Change, draft: &Draft) -> super::Stop {
        let head = &change.path[0];
        if !draft.defines(&head.text) {
            return self.no_setting(def, head);
        }
        let text =
            format!("`{}` is a part of `{}`, and only settings can be changed by a path", head.text, def.name.text);
        let d = Diagnostic::error("V0103", text, change.span, "a path into a part");
        self.fail(d.help(format!("replace the part: `{} = ...`, or give `{}` a setting", head.text, def.name.text)))
    }

    fn unread_line(&self, def: &Def, name: &Word, draft: &Draft) -> super::Stop {
        let mut known = settings(def);
        known.extend(draft.stmts.iter().flat_map(|s| defined(s)).map(|w| w.text.clone()));
        known.retain(|n| *n != name.text && !n.contains(' '));
        let near = suggest::nearest(&name.text, known.iter().map(|n| &**n)).map(|n| format!("did you mean `{n}`?"));
        let text = format!("`{}` has no setting or part called `{}`", def.name.text, name.text);
        let d = Diagnostic::error("V0103", text, name.span, "nothing reads this line, so it would change nothing");
        let d = d.maybe_help(near).note(format!("it has {}", known.join(", ")));
        self.fail(d.note("`with` may add a line only when another line reads it"))
    }

    /// The scope in which a statement of an instance's definition is evaluated: `body`, or for a line of a `with` the
    /// place where it stands behind it.
    pub(super) fn line_scope(&mut self, closure: &Closure, span: Span, body: &ScopeRef) -> ScopeRef {
        let Some(line) = closure.line(span) else { return body.clone() };
        let inner = self.scope(ScopeKind::Line(line.scope.clone()), Some(body));
        let Some((name, kept)) = &line.before else { return inner };
        let kind = ScopeKind::Own {
            name: Some(name.clone()),
            path: name.clone(),
            old: body.get(kept),
            written: line.scope.clone(),
        };
        self.scope(kind, Some(&inner))
    }
}

/// A definition while lines are put in their places.
struct Draft {
    stmts: Vec<Rc<Stmt>>,
    lines: Vec<Line>,
    /// What stays a change of a setting.
    settings: Vec<Change>,
    /// Names that the base does not have, with their lines.
    added: Vec<(Word, Span)>,
}

impl Draft {
    fn defines(&self, name: &str) -> bool {
        self.stmts.iter().any(|s| defined(s).iter().any(|w| &*w.text == name))
    }

    /// Puts a line where what it replaces stands, or at the end.
    fn place(&mut self, stmt: Rc<Stmt>, change: &Change) {
        let names: Vec<Word> = defined(&stmt).into_iter().cloned().collect();
        let (mut stmt, mut at, mut before) = (stmt, None, None);
        if names.is_empty()
            && let Some(i) = self.stmts.iter().position(|old| replaces(&stmt, old))
        {
            self.stmts.remove(i);
            at = Some(i);
        }
        for name in &names {
            let own = reads_itself(&stmt, &name.text);
            let Some(i) = self.stmts.iter().position(|s| defined(s).iter().any(|w| w.text == name.text)) else {
                self.added.push((name.clone(), stmt.span));
                // There is no value before, so the line means what its file calls by that name.
                if own {
                    before = Some((name.text.clone(), "".into()));
                }
                continue;
            };
            stmt = with_key(&stmt, &key_of(&self.stmts[i], &name.text));
            let hidden: Rc<str> = format!("{} before {}", name.text, self.lines.len()).into();
            if own || defined(&self.stmts[i]).len() > 1 {
                // Kept: the line reads it, or it is one of several names that a list is taken apart into.
                self.rename(i, &name.text, &hidden);
                at = Some(i + 1);
                if own {
                    before = Some((name.text.clone(), hidden));
                }
            } else {
                self.stmts.remove(i);
                at = Some(at.map_or(i, |a: usize| if a > i { a - 1 } else { a }));
            }
        }
        self.lines.push(Line { span: stmt.span, scope: change.scope.clone(), before });
        let at = at.unwrap_or(self.stmts.len());
        self.stmts.insert(at, stmt);
    }

    /// Gives one name of a statement another, under which its weights keep their key.
    fn rename(&mut self, i: usize, name: &str, to: &Rc<str>) {
        let old = &self.stmts[i];
        let key = key_of(old, name).unwrap_or_else(|| Word { text: name.into(), span: old.span });
        let word = |w: &Word| Word { text: to.clone(), span: w.span };
        let kind = match &old.kind {
            StmtKind::Bind { targets, key: own, kind, value } => {
                let targets: Vec<Path> = targets
                    .iter()
                    .map(|t| match &t.parts[..] {
                        [w] if &*w.text == name => Path { parts: vec![word(w)], span: t.span },
                        _ => t.clone(),
                    })
                    .collect();
                let key = if targets.len() == 1 { Some(key) } else { own.clone() };
                StmtKind::Bind { targets, key, kind: kind.clone(), value: value.clone() }
            }
            StmtKind::Learn(l) => StmtKind::Learn(Learn { name: word(&l.name), key: Some(key), ..l.clone() }),
            StmtKind::Draw { name: own, axes, from, per } => {
                StmtKind::Draw { name: word(own), axes: axes.clone(), from: from.clone(), per: per.clone() }
            }
            StmtKind::Require(..)
            | StmtKind::Forward(..)
            | StmtKind::Return(_)
            | StmtKind::Metric(..)
            | StmtKind::Section(..) => old.kind.clone(),
        };
        self.stmts[i] = Rc::new(Stmt { kind, ..(**old).clone() });
    }
}

/// The base under the variant's name, with the settings of its header.
fn with_header(base: &Closure, variant: &Rc<Def>, file: &ScopeRef) -> Closure {
    let mut formals = base.def.formals.clone();
    let mut changes = base.changes.clone();
    let mut lines = base.lines.clone();
    let mut value = base.def.value.clone();
    for formal in &variant.formals {
        let same = |f: &Formal| f.names.iter().any(|w| formal.names.iter().any(|n| n.text == w.text));
        changes.retain(|c| formal.names.iter().all(|n| n.text != c.path[0].text));
        match formals.iter().position(same) {
            Some(i) => formals[i] = formal.clone(),
            None => formals.push(formal.clone()),
        }
        lines.push(Line { span: formal.span, scope: file.clone(), before: None });
        // A part that becomes a setting is no longer a part.
        if let DefValue::Body(body) = &value {
            let is = |w: &&Word| formal.names.iter().any(|n| n.text == w.text);
            let goes = |s: &&Rc<Stmt>| !defined(s).is_empty() && defined(s).iter().all(is);
            let stmts = body.stmts.iter().filter(|s| !goes(s));
            value = DefValue::Body(Rc::new(Body { stmts: stmts.cloned().collect(), span: body.span }));
        }
    }
    let doc = variant.doc.clone().or_else(|| base.def.doc.clone());
    let def = Def { name: variant.name.clone(), formals, value, doc, span: variant.span, ..(*base.def).clone() };
    Closure { def: Rc::new(def), file: base.file.clone(), changes, lines }
}

/// Statements without a name that stand for each other: `forward`, and a `require` with the same message.
fn replaces(new: &Stmt, old: &Stmt) -> bool {
    match (&new.kind, &old.kind) {
        (StmtKind::Forward(..), StmtKind::Forward(..)) => true,
        (StmtKind::Require(_, Some(a)), StmtKind::Require(_, Some(b))) => a.text == b.text,
        _ => false,
    }
}

/// The stored key that a statement gives to a name.
fn key_of(stmt: &Stmt, name: &str) -> Option<Word> {
    match &stmt.kind {
        StmtKind::Bind { targets, key, .. } if targets.len() == 1 => key.clone(),
        StmtKind::Learn(l) if &*l.name.text == name => l.key.clone(),
        _ => None,
    }
}

/// The statement with a stored key, unless it gives one itself.
fn with_key(stmt: &Rc<Stmt>, inherited: &Option<Word>) -> Rc<Stmt> {
    if inherited.is_none() {
        return stmt.clone();
    }
    let kind = match &stmt.kind {
        StmtKind::Bind { targets, key: None, kind, value } if targets.len() == 1 => StmtKind::Bind {
            targets: targets.clone(),
            key: inherited.clone(),
            kind: kind.clone(),
            value: value.clone(),
        },
        StmtKind::Learn(l) if l.key.is_none() => StmtKind::Learn(Learn { key: inherited.clone(), ..l.clone() }),
        _ => return stmt.clone(),
    };
    Rc::new(Stmt { kind, ..(**stmt).clone() })
}

fn reads_itself(stmt: &Stmt, name: &str) -> bool {
    let StmtKind::Bind { .. } = &stmt.kind else { return false };
    let mut found = false;
    visit_stmt(stmt, &mut |e| found |= matches!(&e.kind, ExprKind::Name(n) if &**n == name));
    found
}

fn is_setting(def: &Def, name: &str) -> bool {
    def.formals.iter().any(|f| f.names.iter().any(|w| &*w.text == name))
}

fn settings(def: &Def) -> Vec<Rc<str>> {
    def.formals.iter().flat_map(|f| f.names.iter().map(|w| w.text.clone())).collect()
}
