//! `vjepac check`: every model of the file when none is named.

use vjepac::diag::{Diagnostic, Severity};
use vjepac::render::to_json;

use super::session::{Failure, Session, pretty, print};

/// Checks and reports; errors of a shared base are reported once.
pub fn run(session: &mut Session, json: bool) -> Result<(), Failure> {
    let names = session.models()?;
    let mut found: Vec<Diagnostic> = vec![];
    for name in &names {
        let more = match session.check(name) {
            Ok((_, warnings)) => warnings,
            Err(errors) => errors,
        };
        for d in more {
            if !found.contains(&d) {
                found.push(d);
            }
        }
    }
    if found.iter().any(|d| d.severity == Severity::Error) {
        return Err(Failure::Source(found));
    }
    if json {
        print(&pretty(&to_json(&session.sources, &found)));
    } else {
        session.report(&found);
        let path = &session.sources.get(session.file).path;
        eprintln!("{path}: {}", if names.is_empty() { "no models".to_owned() } else { names.join(", ") + " ok" });
    }
    Ok(())
}
