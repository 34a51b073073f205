//! Recovery words: 256 random bits as 24 words of BIP-39's English list, for the drawer.
//!
//! The list has no two words with the same first four letters, and the last word holds a checksum of 8 bits: a
//! typing error is told apart from the wrong words. The words are full entropy, so no slow hash stands behind them.

use bip39::{Language, Mnemonic};
use zeroize::{Zeroize, Zeroizing};

use crate::base::{Random, RandomError, SecretBytes, SlotId};
use crate::crypto::{KEY_LEN, Key, labels};

/// How many words there are.
pub const RECOVERY_WORDS: usize = 24;

/// Why a text is no set of recovery words. It never says a word of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// There are more or fewer words.
    #[error("there are {found} words where {RECOVERY_WORDS} are expected")]
    Count {
        /// How many were given.
        found: usize,
    },
    /// A word is not on the list.
    #[error("word {number} is none of the list: look for a typing error there")]
    Unknown {
        /// Which, from 1.
        number: usize,
    },
    /// Every word is on the list, but the checksum does not fit.
    #[error("the words do not fit each other: one of them is another, or two are swapped")]
    Checksum,
}

/// The secret of a recovery slot. Wiped on drop; shows nothing.
pub struct RecoveryWords(Zeroizing<[u8; KEY_LEN]>);

impl std::fmt::Debug for RecoveryWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryWords(..)")
    }
}

impl RecoveryWords {
    /// Draws fresh ones.
    ///
    /// # Errors
    /// [`RandomError`] where the random source fails.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomError> {
        let mut entropy = Zeroizing::new([0; KEY_LEN]);
        random.fill(&mut *entropy)?;
        Ok(Self(entropy))
    }

    /// Reads words as a person types them: in any case, over several lines, numbered or not.
    ///
    /// # Errors
    /// [`RecoveryError`], which names the place and not the word.
    pub fn parse(typed: &SecretBytes) -> Result<Self, RecoveryError> {
        let text = std::str::from_utf8(typed.expose()).map_err(|_| RecoveryError::Unknown { number: 1 })?;
        let is_number = |word: &&str| word.trim_end_matches(['.', ')', ':']).bytes().all(|byte| byte.is_ascii_digit());
        let mut plain = Zeroizing::new(String::with_capacity(2 * text.len() + 1));
        let mut found = 0;
        for word in text.split_whitespace().filter(|word| !is_number(word)) {
            plain.extend(word.chars().map(|letter| letter.to_ascii_lowercase()));
            plain.push(' ');
            found += 1;
        }
        if found != RECOVERY_WORDS {
            return Err(RecoveryError::Count { found });
        }
        let words = Mnemonic::parse_in_normalized(Language::English, &plain).map_err(|error| match error {
            bip39::Error::UnknownWord(at) => RecoveryError::Unknown { number: at + 1 },
            bip39::Error::BadWordCount(found) => RecoveryError::Count { found },
            _ => RecoveryError::Checksum,
        })?;
        let (mut entropy, _) = words.to_entropy_array();
        let secret = entropy.first_chunk::<KEY_LEN>().copied().map(|bytes| Self(Zeroizing::new(bytes)));
        entropy.zeroize();
        secret.ok_or(RecoveryError::Count { found })
    }

    /// The words, one space between each.
    #[must_use]
    pub fn text(&self) -> SecretBytes {
        let mut text = Zeroizing::new(Vec::with_capacity(RECOVERY_WORDS * 9));
        // 32 bytes are always 24 words.
        if let Ok(words) = Mnemonic::from_entropy_in(Language::English, &*self.0) {
            for word in words.words() {
                if !text.is_empty() {
                    text.push(b' ');
                }
                text.extend_from_slice(word.as_bytes());
            }
        }
        SecretBytes::from(text.as_slice())
    }

    /// The key of the slot that these words open.
    pub(super) fn slot_key(&self, slot: SlotId) -> Key {
        Key::derive(labels::RECOVERY_SLOT, &[self.0.as_slice(), slot.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SeededRandom;

    fn words() -> RecoveryWords {
        RecoveryWords::generate(&SeededRandom::new(7)).unwrap()
    }

    #[test]
    fn debug_of_recovery_words_shows_nothing() {
        assert_eq!(format!("{:?}", words()), "RecoveryWords(..)");
    }

    /// The first vector of BIP-39 with 256 bits.
    #[test]
    fn the_words_of_the_standard() {
        let words = RecoveryWords(Zeroizing::new([0; KEY_LEN]));
        let text = words.text();
        let expected = format!("{}art", "abandon ".repeat(23));
        assert_eq!(text.expose(), expected.as_bytes());
        assert_eq!(*RecoveryWords::parse(&text).unwrap().0, [0; KEY_LEN]);
    }

    #[test]
    fn words_are_read_as_a_person_types_them() {
        let words = words();
        let text = String::from_utf8(words.text().expose().to_vec()).unwrap();
        let numbered: Vec<String> =
            text.split(' ').enumerate().map(|(at, word)| format!("{}. {word}", at + 1)).collect();
        let numbered = numbered.join("\n") + "\n";
        for typed in [text.clone(), text.to_uppercase(), numbered, format!("  {text}\n")] {
            assert_eq!(RecoveryWords::parse(&SecretBytes::from(typed.as_bytes())).unwrap().0, words.0, "{typed}");
        }
    }

    #[test]
    fn a_typing_error_is_found_and_its_word_is_not_repeated() {
        let text = String::from_utf8(words().text().expose().to_vec()).unwrap();
        let parse = |typed: &str| RecoveryWords::parse(&SecretBytes::from(typed.as_bytes())).unwrap_err();
        let list: Vec<&str> = text.split(' ').collect();
        for number in 0..RECOVERY_WORDS {
            let mut typed = list.clone();
            typed[number] = "kanarienvogel";
            let error = parse(&typed.join(" "));
            assert_eq!(error, RecoveryError::Unknown { number: number + 1 });
            assert!(!error.to_string().contains("kanarienvogel"));
        }
        assert_eq!(parse(&list[..23].join(" ")), RecoveryError::Count { found: 23 });
        let mut swapped = list.clone();
        swapped.swap(0, 1);
        assert_eq!(parse(&swapped.join(" ")), RecoveryError::Checksum);
    }
}
