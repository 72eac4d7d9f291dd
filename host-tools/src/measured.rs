//! The `[measured]` table of a model's manifest: written here, read by people.
//!
//! Each tool owns one table in it, such as `[measured.eval]`. Everything else of the file stays as its author wrote it.

use std::path::Path;

use anyhow::Context;
use files::model_dir;

/// Puts `table` as `[measured.<tool>]` into the manifest of the model in `dir`, in place of what stood there. The file is
/// replaced whole or not at all.
pub fn write(dir: &Path, tool: &str, table: &toml::Table) -> anyhow::Result<()> {
    let path = dir.join("manifest.toml");
    let named = || path.display().to_string();
    let text = with_table(&model_dir::read_text(&path)?, tool, table)?;
    // What is written must be a manifest still.
    detector::manifest::Manifest::parse(&named(), &text)
        .map_err(|wrong| anyhow::anyhow!(detector::keys::words(&wrong)))?;
    let beside = dir.join(".manifest.toml.new");
    let replaced = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, &path));
    if replaced.is_err() {
        // It may not be there: the error that counts is the one above.
        let _ = std::fs::remove_file(&beside);
    }
    replaced.with_context(named)
}

fn with_table(text: &str, tool: &str, table: &toml::Table) -> anyhow::Result<String> {
    let name = format!("measured.{tool}");
    let mut kept = String::new();
    let mut skipping = false;
    for line in text.lines() {
        if let Some(header) = line.trim().strip_prefix('[') {
            let header = header.split(']').next().unwrap_or("").trim();
            skipping = header == name || header.starts_with(&format!("{name}."));
        }
        if !skipping {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    // With its whole name: tables inside of it have theirs behind that.
    let whole = toml::Table::from_iter([(
        "measured".to_string(),
        toml::Table::from_iter([(tool.to_string(), table.clone().into())]).into(),
    )]);
    Ok(format!("{}\n\n{}", kept.trim_end(), toml::to_string(&whole)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_replaced_and_the_rest_stays() {
        let table = |accuracy: f64| toml::Table::from_iter([("accuracy".to_string(), accuracy.into())]);
        let text = "# mine\nname = \"a\"\n[decision] # theirs\nhold_s = 1.0\n[measured.bench]\np99 = 3.0\n";
        let once = with_table(text, "eval", &table(0.5)).unwrap();
        assert_eq!(once, format!("{text}\n[measured.eval]\naccuracy = 0.5\n"));
        let twice = with_table(&once, "eval", &table(0.75)).unwrap();
        assert_eq!(twice, format!("{text}\n[measured.eval]\naccuracy = 0.75\n"));
        let bench = with_table(&twice, "bench", &table(1.0)).unwrap();
        let inner = toml::Table::from_iter([("total_ms".to_string(), table(3.0).into())]);
        let nested = with_table(text, "bench", &inner).unwrap();
        assert!(nested.contains("[measured.bench.total_ms]\naccuracy = 3.0\n"), "{nested}");
        assert_eq!(with_table(&nested, "bench", &inner).unwrap(), nested);
        assert!(!bench.contains("p99") && bench.contains("[measured.eval]\naccuracy = 0.75\n"), "{bench}");
    }
}
