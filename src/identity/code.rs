//! Pairing codes: a locator that says which pairing it is for, and the secret.

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::base::{Random, RandomError};
use crate::event::identity::CodeMethod;

/// Why a text is no pairing code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pairing code is four letters, a dash, and six digits or 32 hexadecimal digits")]
pub struct CodeError;

/// Letters of a locator: none that people mistake for another.
const LETTERS: &[u8; 20] = b"bcdfghjkmnpqrstvwxyz";
const LOCATOR_LEN: usize = 4;
const PIN_LEN: usize = 6;
const TOKEN_LEN: usize = 32;

/// A pairing code. Its secret part is wiped on drop and never shown but by [`Code::expose`].
pub struct Code {
    locator: String,
    secret: Zeroizing<String>,
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Code").field("locator", &self.locator).finish_non_exhaustive()
    }
}

/// A number below `bound`, each as likely as the other: what does not divide evenly is drawn again.
fn below(random: &dyn Random, bound: u32) -> Result<u32, RandomError> {
    let limit = u32::MAX - u32::MAX % bound;
    loop {
        let drawn = u32::from_le_bytes(random.array()?);
        if drawn < limit {
            return Ok(drawn % bound);
        }
    }
}

impl Code {
    /// Draws a code: a PIN of six digits (a guess is right once in a million), or a token of 128 bits.
    ///
    /// # Errors
    /// [`RandomError`].
    pub fn generate(random: &dyn Random, method: CodeMethod) -> Result<Self, RandomError> {
        let mut locator = String::with_capacity(LOCATOR_LEN);
        for _ in 0..LOCATOR_LEN {
            let at = usize::try_from(below(random, 20)?).unwrap_or(0);
            locator.push(char::from(LETTERS.get(at).copied().unwrap_or(b'b')));
        }
        let mut secret = Zeroizing::new(String::with_capacity(TOKEN_LEN));
        match method {
            CodeMethod::Pin => {
                for _ in 0..PIN_LEN {
                    secret.push(char::from_digit(below(random, 10)?, 10).unwrap_or('0'));
                }
            }
            CodeMethod::Qr => {
                for byte in *Zeroizing::new(random.array::<16>()?) {
                    for half in [byte >> 4, byte & 15] {
                        secret.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
                    }
                }
            }
        }
        Ok(Self { locator, secret })
    }

    /// Which pairing it is for; no secret.
    #[must_use]
    pub fn locator(&self) -> &str {
        &self.locator
    }

    /// The secret part, for the PAKE.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    /// The whole code, to be shown once.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}-{}", self.locator, self.secret.as_str()))
    }
}

impl FromStr for Code {
    type Err = CodeError;

    /// Reads a code as people type it: case, spaces and dashes within the secret do not matter.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let (locator, rest) = text.trim().split_once(['-', ' ']).ok_or(CodeError)?;
        let locator = locator.to_ascii_lowercase();
        if locator.len() != LOCATOR_LEN || !locator.bytes().all(|letter| LETTERS.contains(&letter)) {
            return Err(CodeError);
        }
        let mut secret = Zeroizing::new(String::with_capacity(TOKEN_LEN + 1));
        for letter in rest.chars().filter(|letter| !matches!(letter, ' ' | '-')) {
            if secret.len() >= TOKEN_LEN || !letter.is_ascii_hexdigit() {
                return Err(CodeError);
            }
            secret.push(letter.to_ascii_lowercase());
        }
        let pin = secret.len() == PIN_LEN && secret.bytes().all(|digit| digit.is_ascii_digit());
        if pin || secret.len() == TOKEN_LEN { Ok(Self { locator, secret }) } else { Err(CodeError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::OsRandom;

    #[test]
    fn a_code_reads_back_as_people_type_it() {
        for method in [CodeMethod::Pin, CodeMethod::Qr] {
            let code = Code::generate(&OsRandom, method).unwrap();
            let typed = format!("  {} ", code.expose().to_uppercase());
            let read: Code = typed.parse().unwrap();
            assert_eq!((read.locator(), read.secret()), (code.locator(), code.secret()));
        }
        let spaced: Code = "bcdf 123-456".parse().unwrap();
        assert_eq!(spaced.secret(), b"123456");
        for bad in
            ["", "bcdf", "bcdf-12345", "bcdf-1234567", "abcd-123456", "bcdf-12345a", "bcdfg-123456", "bcdf-é23456"]
        {
            assert!(bad.parse::<Code>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_code_shows_its_locator_alone() {
        let code: Code = "bcdf-123456".parse().unwrap();
        assert_eq!(format!("{code:?}"), "Code { locator: \"bcdf\", .. }");
    }
}
