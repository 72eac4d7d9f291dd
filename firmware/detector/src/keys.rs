//! TOML text from outside becomes a type here, and every mistake names file, line, key and cause.
//!
//! All configuration types are `deny_unknown_fields`; a key that is not known is answered with the nearest one that is.

use serde::de::DeserializeOwned;

/// How the cause begins of a key that should be there.
const MISSING: &str = "missing";
/// The cause of a key that should not.
const UNKNOWN: &str = "unknown key";

/// One mistake in a TOML file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyError {
    /// The file's name as the user gave it.
    pub file: String,
    /// Line in the file, from 1, where it is known.
    pub line: Option<usize>,
    /// The key, dotted with its tables, where it is known.
    pub key: Option<String>,
    /// What is wrong.
    pub cause: String,
    /// What would be right, where that can be said.
    pub hint: Option<String>,
}

impl KeyError {
    /// A mistake found after parsing: a value that is out of range, or does not fit another one.
    pub fn new(file: &str, key: &str, cause: impl Into<String>) -> Self {
        Self { file: file.into(), line: None, key: Some(key.into()), cause: cause.into(), hint: None }
    }

    /// Whether `later` is missed only since this mistake, a key that is missing in that table, left the whole table out.
    fn left_out(&self, later: &Self) -> bool {
        self.is_missing() && later.is_missing() && self.table() == later.key.as_deref()
    }

    /// Whether something is not there that should be: it may be the very key that is misspelt.
    pub fn is_missing(&self) -> bool {
        self.cause.starts_with(MISSING)
    }

    /// Whether a key is not known that has its line, or its table, for itself: in `votes = { of = 3, new = 1 }` it has not.
    fn is_unknown_alone(&self, text: &str) -> bool {
        let line = self.line.and_then(|line| text.trim_start_matches('\u{feff}').lines().nth(line - 1)).unwrap_or("");
        let own = line.split_once('=').map_or("", |(own, _)| own.trim());
        let alone = self.key.as_deref().is_some_and(|key| key == own || key.ends_with(&format!(".{own}")));
        self.cause == UNKNOWN && (line.trim_start().starts_with('[') || alone)
    }

    /// The table that its key stands in; none at the top.
    pub fn table(&self) -> Option<&str> {
        Some(self.key.as_deref()?.rsplit_once('.')?.0)
    }

    /// The same mistake with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for KeyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": `{key}`")?;
        }
        write!(f, ": {}", self.cause)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for KeyError {}

/// Parses TOML `text` of `file`.
///
/// # Errors
/// The first mistake: not TOML, a wrong type, a key missing or unknown.
pub fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, KeyError> {
    toml::from_str(text).map_err(|error| explain(file, text, &error))
}

/// Mistakes as people read them, a line each.
pub fn words(wrong: &[KeyError]) -> String {
    wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Parses TOML `text` of `file` and goes on after each mistake, so that a person sees all of them in one run.
///
/// # Errors
/// Every mistake, in the order of lines; at least one.
pub fn parse_all<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Vec<KeyError>> {
    whole(parse_rest(file, text))
}

/// What was parsed where there is no mistake in it.
///
/// # Errors
/// The mistakes.
pub fn whole<T>((parsed, wrong): (Option<T>, Vec<KeyError>)) -> Result<T, Vec<KeyError>> {
    parsed.filter(|_| wrong.is_empty()).ok_or(wrong)
}

/// Parses TOML `text` of `file` and checks the values of what parses, also where other keys are wrong.
///
/// # Errors
/// Every mistake. What is missing may be the very key that is misspelt, or of a table that had to be left out: it is said where
/// nothing else is wrong, once.
pub fn parse_checked<T: DeserializeOwned>(
    file: &str,
    text: &str,
    check: impl FnOnce(&T) -> Vec<KeyError>,
) -> Result<T, Vec<KeyError>> {
    let (parsed, mut wrong) = parse_rest::<T>(file, text);
    let first_missing = wrong.first().cloned();
    let parses = wrong.is_empty();
    wrong.extend(parsed.as_ref().map(check).unwrap_or_default());
    if !parses {
        wrong.retain(|error| !error.is_missing());
        wrong.dedup();
        if wrong.is_empty() {
            wrong.extend(first_missing);
        }
    }
    whole((parsed, wrong))
}

/// As [`parse_all`], and what is left of the text without its mistakes, so that its values can be checked in the same run.
pub fn parse_rest<T: DeserializeOwned>(file: &str, text: &str) -> (Option<T>, Vec<KeyError>) {
    const MISTAKES_MAX: usize = 50;
    let mut rest = None;
    let mut wrong = Vec::new();
    // An editor's byte order mark is no part of the first key.
    let mut lines: Vec<&str> = text.trim_start_matches('\u{feff}').lines().collect();
    while wrong.len() < MISTAKES_MAX {
        match parse::<T>(file, &lines.join("\n")) {
            Ok(parsed) => {
                rest = Some(parsed);
                break;
            }
            // The table that had to be left out for what it lacks is not missing itself.
            Err(error) if wrong.iter().any(|before: &KeyError| before.left_out(&error)) => break,
            Err(error) => {
                let line = error.line;
                // The same line twice: leaving it out did not help, so neither would going on.
                let stuck = wrong.last().is_some_and(|last: &KeyError| last.line == line);
                wrong.push(error);
                match line {
                    Some(line) if !stuck => blank(&mut lines, line - 1),
                    _ => break,
                }
            }
        }
    }
    wrong.sort_by_key(|error| error.line);
    (rest, wrong)
}

/// As [`parse_rest`], for a text that another release may have written: keys that are not known here are no mistakes, where
/// nothing that is known had to be left out with them.
pub fn parse_known<T: DeserializeOwned>(file: &str, text: &str) -> (Option<T>, Vec<KeyError>) {
    let (parsed, mut wrong) = parse_rest(file, text);
    wrong.retain(|error| !error.is_unknown_alone(text));
    (parsed, wrong)
}

/// Leaves out the key at `line` with the lines its value goes on over; a table's header goes with all of its table.
fn blank(lines: &mut [&str], line: usize) {
    let header = |line: &str| line.trim_start().starts_with('[');
    let key = |line: &str| {
        line.split_once('=')
            .is_some_and(|(key, _)| key.trim().chars().all(|c| c.is_alphanumeric() || "_-.\"".contains(c)))
    };
    let whole_table = lines.get(line).is_some_and(|line| header(line));
    if let Some(first) = lines.get_mut(line) {
        *first = "";
    }
    for next in lines.iter_mut().skip(line + 1) {
        if header(next) || (!whole_table && (key(next) || next.trim().is_empty())) {
            break;
        }
        *next = "";
    }
}

fn explain(file: &str, text: &str, error: &toml::de::Error) -> KeyError {
    let start = error.span().map(|span| span.start);
    let message = error.message().to_string();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let line = start.map(|at| 1 + text[..at.min(text.len())].matches('\n').count());
    if let (true, Some(name)) = (message.starts_with("missing field"), quoted.first()) {
        let table = table_that_lacks(error);
        // Of the text's top it is told as of its whole: no line is its place.
        let line = line.filter(|_| table.is_some());
        let key = Some(table.map_or_else(|| name.to_string(), |table| format!("{table}.{name}")));
        return KeyError { file: file.into(), line, key, cause: MISSING.into(), hint: None };
    }
    // serde's own words are the only place where the known keys of the struct at hand stand together.
    let field = message.starts_with("unknown field");
    let unknown = field || message.starts_with("unknown variant");
    let line_key = start.and_then(|at| key_at(text, at));
    let name = match quoted.first() {
        // Inside of `votes = { .. }` the line's own key comes before it.
        Some(name) if field => match line_key {
            Some(key) if key == *name || key.ends_with(&format!(".{name}")) => Some(key),
            Some(key) => Some(format!("{key}.{name}")),
            None => Some(name.to_string()),
        },
        // A value, not a key, or a table that stands there twice.
        _ => line_key.or_else(|| table_of(line_at(text, start?)?)),
    };
    let table = start.and_then(|at| table_at(text, at)).filter(|table| Some(table) != name.as_ref());
    let known =
        unknown.then(|| nearest(quoted.first().copied().unwrap_or(""), quoted.get(1..).unwrap_or(&[]))).flatten();
    let hint = known.map(|known| format!("did you mean `{known}`?")).or_else(|| type_hint(&message).map(String::from));
    let cause = match unknown {
        true if field => UNKNOWN.to_string(),
        true => format!("unknown value \"{}\"", quoted.first().unwrap_or(&"")),
        false => message.lines().next().unwrap_or("not understood").to_string(),
    };
    KeyError {
        file: file.into(),
        line,
        key: name.map(|name| match table {
            Some(table) if name != table => format!("{table}.{name}"),
            _ => name,
        }),
        cause,
        hint,
    }
}

/// The table in which a key is missing, dotted: toml names it where it has no text to point into.
fn table_that_lacks(error: &toml::de::Error) -> Option<String> {
    let mut bare = error.clone();
    bare.set_input(None);
    let words = bare.to_string();
    words.lines().find_map(|line| Some(line.strip_prefix("in `")?.strip_suffix('`')?.to_string()))
}

/// How a value of the expected kind is written.
fn type_hint(message: &str) -> Option<&'static str> {
    if message.starts_with("duplicate key") {
        return Some("it may stand there once");
    }
    let expected = message.strip_prefix("invalid type: ")?.rsplit_once("expected ")?.1;
    match expected {
        "a boolean" => Some("write true or false, without quotes"),
        "f64" | "f32" | "u16" | "u32" | "u64" | "usize" | "i64" => Some("write a number, without quotes"),
        "a string" => Some("write it in quotes"),
        "a sequence" => Some("write it in brackets, such as [\"a\", \"b\"]"),
        _ => None,
    }
}

/// The known name nearest to `given`: it may not be what was meant, and shows what is known all the same.
pub fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let score = |name: &str| strsim::jaro_winkler(given, name);
    known.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b)))
}

/// The whole line that holds byte `at`.
fn line_at(text: &str, at: usize) -> Option<&str> {
    let start = text.get(..at.min(text.len()))?.rfind('\n').map_or(0, |newline| newline + 1);
    text[start..].lines().next()
}

/// The key of the line that holds byte `at`.
fn key_at(text: &str, at: usize) -> Option<String> {
    let (key, _) = line_at(text, at)?.split_once('=')?;
    let key = key.trim();
    (!key.is_empty() && !key.starts_with('#')).then(|| key.to_string())
}

/// The table that byte `at` stands in.
fn table_at(text: &str, at: usize) -> Option<String> {
    let at = at.min(text.len());
    // The whole line that holds `at`: a key that is missing is reported at its table's header.
    let end = text.get(at..)?.find('\n').map_or(text.len(), |newline| at + newline);
    table_of(text[..end].lines().rev().find(|line| line.trim_start().starts_with('[') && line.contains(']'))?)
}

/// The table whose header `line` is.
fn table_of(line: &str) -> Option<String> {
    let line = line.trim();
    let name = line.strip_prefix('[')?.trim_start_matches('[').split(']').next()?.trim();
    // A list that goes over several lines also begins with a bracket; a table's name has no comma and no quote.
    (!name.contains([',', '"']) && line.split('#').next()?.trim().ends_with(']')).then(|| name.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[allow(dead_code)]
        threshold_on: f64,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[allow(dead_code)]
        decision: Inner,
    }

    fn check(text: &str, expect: &str) {
        assert_eq!(parse::<Outer>("site.toml", text).unwrap_err().to_string(), expect);
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Site {
        #[allow(dead_code)]
        zone: String,
        #[allow(dead_code)]
        mqtt: Mqtt,
    }
    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Mqtt {
        #[allow(dead_code)]
        port: u16,
        #[allow(dead_code)]
        host: String,
    }

    #[test]
    fn all_mistakes_are_found_in_one_run() {
        let text = "zoen = \"a\"\n[mqtt]\nhots = [\n 1,\n]\nport = \"x\"\n[nothing]\na = 1\n";
        let wrong: Vec<String> = parse_all::<Site>("s", text)
            .unwrap_err()
            .iter()
            .map(|e| format!("{:?} {}", e.line, e.key.as_deref().unwrap_or("")))
            .collect();
        assert_eq!(wrong, ["Some(1) zoen", "Some(3) mqtt.hots", "Some(6) mqtt.port", "Some(7) nothing"]);
        assert!(parse_all::<Site>("s", "zone = \"a\"").is_ok());
        assert_eq!(parse_all::<Site>("s", "zone = ").unwrap_err().len(), 1);
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Model {
        #[allow(dead_code)]
        log: Log,
        #[allow(dead_code)]
        votes: Votes,
        #[allow(dead_code)]
        armed: bool,
    }
    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Log {
        #[default]
        Log2,
        Ln,
    }
    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Votes {
        #[allow(dead_code)]
        of: u32,
    }

    #[test]
    fn a_value_is_no_key_and_an_inner_key_has_an_outer_one() {
        for (text, expect) in [
            ("log = \"lnn\"", "m, line 1: `log`: unknown value \"lnn\" (did you mean `ln`?)"),
            ("votes = { off = 2 }", "m, line 1: `votes.off`: unknown key (did you mean `of`?)"),
            ("[votes]\noff = 2", "m, line 2: `votes.off`: unknown key (did you mean `of`?)"),
            ("votes.off = 2", "m, line 1: `votes.off`: unknown key (did you mean `of`?)"),
            ("[votes]\n[votes]", "m, line 2: `votes`: duplicate key (it may stand there once)"),
            ("armed = 1\narmed = 2", "m, line 2: `armed`: duplicate key (it may stand there once)"),
            (
                "armed = \"yes\"",
                "m, line 1: `armed`: invalid type: string \"yes\", expected a boolean (write true or false, without quotes)",
            ),
        ] {
            assert_eq!(parse::<Model>("m", text).unwrap_err().to_string(), expect, "{text}");
        }
    }

    /// What another release wrote costs this one no known key.
    #[test]
    fn a_key_of_another_release_is_passed_over_where_it_stands_alone() {
        for (text, known) in [
            ("armed = true\nnew = [\n1,\n]\nvotes.of = 3", true),
            ("votes.of = 3\narmed = true\n[new]\na = 1\n[new.b]\nc = 2", true),
            ("armed = true\n[votes]\nof = 3\nnew = 1", true),
            ("armed = true\nvotes = { of = 3, new = 1 }", false),
            ("armed = true\nnew = 1\n[votes]\nof = 3\nlog = \"\"\nof = 2", false),
            ("armed = 1\nnew = 1\nvotes.of = 3", false),
            ("]][[", false),
        ] {
            let (model, wrong) = parse_known::<Model>("m", text);
            assert_eq!(wrong.is_empty(), known, "{text}: {wrong:?}");
            let model = model.filter(|_| known).map(|model| (model.armed, model.votes.of));
            assert_eq!(model, known.then_some((true, 3)), "{text}");
        }
    }

    #[test]
    fn mistakes_name_file_line_key_and_cause() {
        check(
            "[decision]\nthresold_on = 0.5\n",
            "site.toml, line 2: `decision.thresold_on`: unknown key (did you mean `threshold_on`?)",
        );
        check("[decision]\n", "site.toml, line 1: `decision.threshold_on`: missing");
        check(
            "\n[decision]\nthreshold_on = \"a\"\n",
            "site.toml, line 3: `decision.threshold_on`: invalid type: string \"a\", expected f64 (write a number, without quotes)",
        );
        check(
            "[decison]\nthreshold_on = 1.0\n",
            "site.toml, line 1: `decison`: unknown key (did you mean `decision`?)",
        );
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Manifest {
        #[allow(dead_code)]
        log: String,
        #[allow(dead_code)]
        votes: Of,
        #[allow(dead_code)]
        decision: Inner,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Of {
        #[allow(dead_code)]
        of: u32,
    }

    #[test]
    fn every_mistake_is_told_and_what_is_missing_only_where_nothing_else_is_wrong() {
        let check = |text: &str| {
            let checked =
                parse_checked::<Outer>("f.toml", text, |_| vec![KeyError::new("f.toml", "checked", "is wrong")]);
            checked.unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        let all = check("decison = 1\n[decision]\nthreshold_onn = 0.5\n");
        assert!(all.contains("decison") && all.contains("threshold_onn") && !all.contains("missing"), "{all}");
        assert_eq!(check("[decision]\n"), "f.toml, line 1: `decision.threshold_on`: missing");
        assert_eq!(check("\n# Nothing.\n"), "f.toml: `decision`: missing");
        let missing = |text: &str| parse::<Manifest>("f.toml", text).unwrap_err().to_string();
        assert_eq!(missing("decision = { threshold_on = 1.0 }\nlog = \"x\""), "f.toml: `votes`: missing");
        assert_eq!(missing("[votes]\nof = 1\n[decision]\nthreshold_on = 1.0"), "f.toml: `log`: missing");
        assert_eq!(missing("log = \"x\"\nvotes = {}"), "f.toml, line 2: `votes.of`: missing");
        let values = check("[decision]\nthreshold_on = 0.5\n");
        assert!(values.contains("`checked`"), "{values}");
    }
}
