//! What stands behind a board file's keys, each with an error that says what may stand there.

use serde::Deserialize;
use std::fmt;

/// One name or several, of which the first that exists counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(pub Vec<String>);

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" or "))
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Labels;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name such as \"pinctrl-rp1\", or an array of names")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Labels, E> {
                Ok(Labels(vec![text.to_string()]))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Labels, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(Labels(names))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A line of a GPIO chip, as a board or site file names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineRef {
    /// The name that the device tree gives it, such as `GPIO17`.
    Name(String),
    /// Its number on the chip.
    Offset(u32),
}

impl fmt::Display for LineRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Offset(offset) => write!(f, "{offset}"),
        }
    }
}

impl<'de> Deserialize<'de> for LineRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // An untagged enum would answer "data did not match any variant", which helps nobody.
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = LineRef;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a line's name such as \"GPIO17\", or its offset on the chip")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<LineRef, E> {
                Ok(LineRef::Name(text.to_string()))
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<LineRef, E> {
                u32::try_from(number)
                    .map(LineRef::Offset)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(number), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A level as the product thinks of it; `active_low` makes a voltage of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Level {
    /// Off, released.
    #[default]
    Inactive,
    /// On, held.
    Active,
}

impl Level {
    /// Whether this is the active level.
    pub fn is_active(self) -> bool {
        self == Self::Active
    }
}

// Spelt out, since serde's "unknown variant" leaves people to guess what a level or a resistor may be called.
impl TryFrom<String> for Level {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "inactive" => Ok(Self::Inactive),
            "active" => Ok(Self::Active),
            _ => {
                Err(format!("\"{text}\" is no level: \"inactive\" or \"active\", which active_low makes a voltage of"))
            }
        }
    }
}

/// An input's resistor inside the chip.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Bias {
    /// Left as the board has it.
    #[default]
    AsIs,
    /// To the supply.
    PullUp,
    /// To ground.
    PullDown,
    /// None.
    Disabled,
}

impl TryFrom<String> for Bias {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "as-is" => Ok(Self::AsIs),
            "pull-up" => Ok(Self::PullUp),
            "pull-down" => Ok(Self::PullDown),
            "disabled" => Ok(Self::Disabled),
            _ => Err(format!("\"{text}\" is no bias: \"as-is\", \"pull-up\", \"pull-down\" or \"disabled\"")),
        }
    }
}
