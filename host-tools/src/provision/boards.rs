//! The boards of this release, built in: who makes cards on a laptop has this program and a package, and no folder of boards.

use anyhow::ensure;
use files::board::{self, Board};
use files::model_dir::read_text;

const BUILT_IN: [(&str, &str); 7] = [
    ("generic", include_str!("../../../boards/generic.toml")),
    ("jetson-nano", include_str!("../../../boards/jetson-nano.toml")),
    ("jetson-orin-nano", include_str!("../../../boards/jetson-orin-nano.toml")),
    ("raspberry-pi-3", include_str!("../../../boards/raspberry-pi-3.toml")),
    ("raspberry-pi-4", include_str!("../../../boards/raspberry-pi-4.toml")),
    ("raspberry-pi-5", include_str!("../../../boards/raspberry-pi-5.toml")),
    ("raspberry-pi-zero-2-w", include_str!("../../../boards/raspberry-pi-zero-2-w.toml")),
];

/// The board `name`: of this release, else of a folder that has it; then with the file's text, since no device has a board of one's own.
///
/// # Errors
/// Where neither has it, or its file is wrong; where a folder has another board of that name than the device will have.
pub fn load(name: &str) -> anyhow::Result<(Board, Option<String>)> {
    let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) else {
        let path = board::find(name, &board::default_roots()).map_err(|missing| {
            let known = BUILT_IN.map(|(name, _)| name).join(", ");
            anyhow::anyhow!("--board: {missing}; in this program: {known}")
        })?;
        return Ok((Board::load(&path)?, Some(read_text(&path)?)));
    };
    let built_in = Board::parse(&format!("{name}.toml of this program"), text)?;
    // A package's folder on this machine is nobody's own.
    let [here, _, own] = board::default_roots();
    if let Ok(path) = board::find(name, &[here, own]) {
        // The device looks into its package's boards first: with a copy on the card it would drive the lines of the original all the same.
        ensure!(
            Board::load(&path)? == built_in,
            "{}: differs from the board of that name in this release, which is the one that the device uses; save yours under \
             a name of its own (file and `name`), and give that as --board",
            path.display()
        );
    }
    Ok((built_in, None))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_board_of_the_repository_is_built_in() {
        let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let in_folder: Vec<_> = board::list(&[root]).into_iter().map(|(name, _)| name).collect();
        assert_eq!(in_folder, BUILT_IN.map(|(name, _)| name));
        for (name, text) in BUILT_IN {
            assert_eq!(Board::parse(name, text).unwrap().name, name);
        }
    }
}
