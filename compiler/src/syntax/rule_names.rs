//! What each rule of the grammar is called when it is expected; no rule name reaches the user.

use super::parse::Rule;

/// Words for a rule, or nothing where naming it would only lengthen the list.
fn words(rule: Rule) -> Option<&'static str> {
    Some(match rule {
        Rule::file | Rule::import | Rule::FROM => "an import (`from ...`)",
        Rule::def | Rule::kind => "a definition (`fn`, `block`, `mask` or `model`)",
        Rule::module | Rule::segment => "a module such as `std.nn` or `./blocks`",
        Rule::alias | Rule::name | Rule::ident | Rule::path | Rule::r#gen | Rule::setting | Rule::formal => "a name",
        Rule::axes => "`[`",
        Rule::formals => "`(`",
        Rule::shape => "a shape such as `[tokens, dim]`",
        Rule::group => "a group such as `(time, rows, cols)`",
        Rule::body => "`{`",
        Rule::stmt
        | Rule::learn
        | Rule::require
        | Rule::forward
        | Rule::give
        | Rule::metric
        | Rule::section
        | Rule::draw
        | Rule::bind
        | Rule::RETURN
        | Rule::REQUIRE
        | Rule::METRIC
        | Rule::FORWARD
        | Rule::PARAM
        | Rule::BUFFER => "a statement such as `name = value`",
        Rule::value
        | Rule::expr
        | Rule::chain
        | Rule::term
        | Rule::prefix
        | Rule::arg
        | Rule::item
        | Rule::atom
        | Rule::tuple
        | Rule::list
        | Rule::number
        | Rule::digits => "a value",
        Rule::op => "an operator",
        Rule::string => "a text such as `\"name\"`",
        Rule::index => "a whole number",
        Rule::star => "`*`",
        Rule::eq => "`=`",
        Rule::ELSE => "`else`",
        Rule::IMPORT => "`import`",
        Rule::IN => "`in`",
        Rule::EOI => "the end of the text",
        Rule::allow
        | Rule::ALLOW
        | Rule::postfix
        | Rule::call
        | Rule::kinds
        | Rule::pick
        | Rule::field
        | Rule::with
        | Rule::percent
        | Rule::unit
        | Rule::word
        | Rule::IF
        | Rule::FOR
        | Rule::AS
        | Rule::PER
        | Rule::BATCH
        | Rule::WITH
        | Rule::B
        | Rule::WHITESPACE
        | Rule::COMMENT => return None,
    })
}

/// The order in which expectations are named, and which of them the others make superfluous.
pub(super) fn expected(rules: &[Rule], open: Option<&str>) -> Vec<&'static str> {
    let mut out: Vec<&'static str> = vec![];
    let mut add = |text| {
        if !out.contains(&text) {
            out.push(text);
        }
    };
    let value = rules.iter().any(|r| matches!(r, Rule::number | Rule::atom | Rule::prefix | Rule::term | Rule::list));
    let after_value = rules.contains(&Rule::op) || rules.contains(&Rule::postfix);
    for &rule in rules {
        // A value covers everything that a value can start with.
        if value && matches!(rule, Rule::string | Rule::name | Rule::axes) {
            continue;
        }
        if let Some(text) = words(rule) {
            add(text);
        }
    }
    match open {
        Some("(") if after_value => ["`,`", "`)`"].into_iter().for_each(&mut add),
        Some("[") if after_value => ["`,`", "`]`"].into_iter().for_each(&mut add),
        Some("{") if after_value || rules.contains(&Rule::stmt) => add("`}`"),
        _ => {}
    }
    if out.contains(&"`=`") {
        // Axes and a stored key are possible there too, but rarely what is missing.
        out.retain(|t| !t.starts_with("a text") && *t != "`[`");
    }
    if out.len() > 1 {
        out.retain(|t| *t != "the end of the text");
    }
    out
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [many @ .., last] => format!("{} or {last}", many.join(", ")),
    }
}
