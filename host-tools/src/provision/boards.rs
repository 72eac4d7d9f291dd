//! The boards of this release, built in: who makes cards on a laptop has this program and a package, and no folder of boards.

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

/// The board `name`: of a folder where one has it, else of this release. With the file's text where it is a board of one's own, which
/// no device has.
///
/// # Errors
/// Where neither has it, or its file is wrong.
pub fn load(name: &str) -> anyhow::Result<(Board, Option<String>)> {
    let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
    let missing = match board::find(name, &board::default_roots()) {
        Ok(path) => {
            let own = built_in.is_none().then(|| read_text(&path)).transpose()?;
            return Ok((Board::load(&path)?, own));
        }
        Err(missing) => missing,
    };
    match built_in {
        Some((_, text)) => Ok((Board::parse(&format!("{name}.toml of this program"), text)?, None)),
        None => {
            let known: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            anyhow::bail!("--board: {missing}; in this program: {}", known.join(", "))
        }
    }
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
