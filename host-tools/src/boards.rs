//! `host-tools boards check`: every file of boards/.
//!
//! Reads `boards/*.toml` of the working directory, or of /usr/share/screamd where there are none, and prints a table and
//! every problem, not only the first. It needs no board: what a file says is checked against itself, and its sources are
//! for people to follow.

use anyhow::{Result, bail};
use files::board::{self, Board, Labels, LineRef};
use files::say;
use std::path::Path;

/// Checks every board, prints what it found, and says whether all is well.
///
/// # Errors
/// Where there is no board at all.
pub fn check() -> Result<bool> {
    let roots = board::default_roots();
    let Some(root) = roots.into_iter().find(|root| !board::list(&[root]).is_empty()) else {
        let looked_in = roots.map(|root| root.join("boards").display().to_string()).join(" and ");
        bail!("no board file in {looked_in}");
    };
    let (table, problems) = check_under(root);
    say!("{table}");
    for problem in &problems {
        say!("{problem}");
    }
    if !problems.is_empty() {
        say!("{} problem{}", problems.len(), if problems.len() == 1 { "" } else { "s" });
    }
    Ok(problems.is_empty())
}

const HEAD: [&str; 8] = ["board", "chip", "siren", "led", "siren <=", "budget", "target-cpu", "glibc"];

fn check_under(root: &Path) -> (String, Vec<String>) {
    let mut rows = vec![HEAD.map(String::from)];
    let mut problems = Vec::new();
    for (name, path) in board::list(&[root]) {
        match Board::load(&path) {
            Ok(board) => {
                // Found by its file's name and shown by its own: two names would be one board too many.
                if board.name != name {
                    let said = board.name.as_str();
                    problems.push(format!("{}: `name`: \"{said}\", but the file is named {name}.toml", path.display()));
                }
                rows.push(row(&board));
            }
            Err(error) => {
                problems.extend(error.problems.iter().map(ToString::to_string));
                let mut row = HEAD.map(|_| "-".to_string());
                row[0] = name;
                rows.push(row);
            }
        }
    }
    (aligned(&rows), problems)
}

fn row(board: &Board) -> [String; 8] {
    let line = |line: Option<(&LineRef, bool, Option<u32>)>| match line {
        Some((line, active_low, pin)) => {
            let pin = pin.map(|pin| format!(" (pin {pin})")).unwrap_or_default();
            format!("{line}{pin}{}", if active_low { " active low" } else { "" })
        }
        None if board.simulated => "simulated".into(),
        None => "none".into(),
    };
    let labels = |labels: &Labels| if labels.0.is_empty() { "none".into() } else { labels.to_string() };
    [
        board.name.clone(),
        labels(&board.chip),
        line(board.siren.as_ref().map(|siren| (&siren.line, siren.active_low, siren.header_pin))),
        line(board.led.as_ref().map(|led| (&led.line, led.active_low, led.header_pin))),
        format!("{} s", board.siren_on_s_max),
        format!("{} ms", board.latency_budget_ms),
        board.target_cpu.clone().unwrap_or_else(|| "any".into()),
        board.glibc_min.clone().unwrap_or_else(|| "any".into()),
    ]
}

fn aligned(rows: &[[String; 8]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let text = |row: &[String; 8]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_string()
    };
    rows.iter().map(text).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_s_boards_are_well() {
        let (table, problems) = check_under(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        assert_eq!(problems, Vec::<String>::new());
        assert!(table.contains("raspberry-pi-5") && table.contains("GPIO17 (pin 11)"), "{table}");
        assert!(table.lines().any(|line| line.starts_with("generic") && line.contains("simulated")), "{table}");
    }

    #[test]
    fn every_problem_of_every_file_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let boards = folder.path().join("boards");
        std::fs::create_dir(&boards).expect("created");
        let good = "schema = 1\nname = \"a\"\ndescription = \"d\"\nsimulated = true\nsiren_on_s_max = 9\n\
                    period_frames = 320\nlatency_budget_ms = 500\nsources = []\n";
        std::fs::write(boards.join("a.toml"), good).expect("written");
        std::fs::write(boards.join("other-name.toml"), good).expect("written");
        std::fs::write(boards.join("c.toml"), good.replace("= 9", "= 0").replace("= 500", "= 0")).expect("written");
        std::fs::write(boards.join("d.toml"), "nonsense = 1\n").expect("written");
        let (table, problems) = check_under(folder.path());
        assert_eq!(table.lines().count(), 5);
        let said = problems.join("\n");
        for part in ["other-name.toml: `name`", "siren_on_s_max", "latency_budget_ms", "nonsense"] {
            assert!(said.contains(part), "{part} is not in:\n{said}");
        }
        assert_eq!(problems.len(), 4, "{said}");
    }
}
