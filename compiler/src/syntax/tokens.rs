//! A tolerant look at the words of a source, independent of the grammar.
//!
//! The grammar says whether a text is right; this list of tokens says what stands around the place where it is wrong.
//! It also ends spans at the last token (the grammar's ranges run on over blanks and comments) and keeps the comments.
//! One pass over the bytes, and no text is an error here.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A name or keyword.
    Word,
    /// `24`, `6.25e-4`, without unit and `%`.
    Number,
    /// `"..."`, both quotes included if both are there.
    Text,
    /// A text that the file ends in.
    OpenText,
    /// An operator, bracket or other punctuation.
    Sign,
    /// A character that the language does not use.
    Stray,
}

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// Everything in a text but the blanks.
#[derive(Debug, Default)]
pub struct Tokens {
    /// Tokens in order.
    pub all: Vec<Token>,
    /// `start..end` of each comment, without its line end.
    pub comments: Vec<(usize, usize)>,
}

impl Tokens {
    /// Index of the first token that starts at or after `byte`.
    pub fn at(&self, byte: usize) -> usize {
        self.all.partition_point(|t| t.start < byte)
    }

    /// Where the last token before `byte` ends, or 0.
    pub fn end_before(&self, byte: usize) -> usize {
        match self.at(byte) {
            0 => 0,
            i => self.all[i - 1].end.min(byte),
        }
    }

    /// The comments that start within `from..to`.
    pub fn comments_between(&self, from: usize, to: usize) -> &[(usize, usize)] {
        let first = self.comments.partition_point(|c| c.0 < from);
        let last = self.comments.partition_point(|c| c.0 < to);
        &self.comments[first..last.max(first)]
    }
}

/// Signs of more than one character, longest first; some belong to other languages and are kept whole for the message.
const LONG_SIGNS: [&str; 20] = [
    "..=", "**=", "//=", "->", "=>", "..", "++", "==", "!=", "<=", ">=", "**", "//", "+=", "-=", "*=", "/=", "&&",
    "||", ":=",
];

/// Signs of one character.
const SIGNS: &str = "{}()[],:=~.<>+-*/%^";

/// Cuts a text into tokens.
pub fn scan(text: &str) -> Tokens {
    let bytes = text.as_bytes();
    let mut out = Tokens::default();
    let mut i = 0;
    while i < bytes.len() {
        let start = i;
        let kind = match bytes[i] {
            b' ' | b'\t' | b'\r' | b'\n' => {
                i += 1;
                continue;
            }
            b'#' => {
                i += bytes[i..].iter().position(|&b| b == b'\n').unwrap_or(bytes.len() - i);
                out.comments.push((start, i));
                continue;
            }
            b'"' => {
                let end = text_end(bytes, i + 1);
                i = end.unwrap_or(bytes.len());
                if end.is_some() { TokenKind::Text } else { TokenKind::OpenText }
            }
            b'0'..=b'9' => {
                i = number_end(bytes, i);
                TokenKind::Number
            }
            b if is_word(b) => {
                i += bytes[i..].iter().take_while(|&&b| is_word(b) || b.is_ascii_digit()).count();
                TokenKind::Word
            }
            _ => {
                let rest = &text[i..];
                let first = rest.chars().next().map_or(1, char::len_utf8);
                let may_be_long =
                    matches!(bytes.get(i + 1), Some(b'=' | b'.' | b'>' | b'+' | b'*' | b'/' | b'&' | b'|'));
                let long = LONG_SIGNS.iter().find(|s| may_be_long && rest.starts_with(**s));
                i += long.map_or(first, |s| s.len());
                if long.is_some() || SIGNS.contains(&rest[..first]) { TokenKind::Sign } else { TokenKind::Stray }
            }
        };
        out.all.push(Token { kind, start, end: i });
    }
    out
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_'
}

/// One past the closing quote, if there is one.
fn text_end(bytes: &[u8], mut i: usize) -> Option<usize> {
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return Some(i + 1),
            _ => i += 1,
        }
    }
    None
}

fn number_end(bytes: &[u8], mut i: usize) -> usize {
    let digits = |i: usize| bytes[i..].iter().take_while(|b| b.is_ascii_digit()).count();
    i += bytes[i..].iter().take_while(|&&b| b.is_ascii_digit() || b == b'_').count();
    if bytes.get(i) == Some(&b'.') && bytes.get(i + 1).is_some_and(u8::is_ascii_digit) {
        i += 1;
        i += digits(i);
    }
    if matches!(bytes.get(i), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(i + 1), Some(b'+' | b'-')));
        let n = bytes.get(i + 1 + sign..).map_or(0, |_| digits(i + 1 + sign));
        if n > 0 {
            i += 1 + sign + n;
        }
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        scan(text).all.iter().map(|t| &text[t.start..t.end]).collect()
    }

    #[test]
    fn splits_numbers_ranges_and_arrows() {
        assert_eq!(
            words("0..=12 a->b 6.25e-4x 1.0 then 5."),
            ["0", "..=", "12", "a", "->", "b", "6.25e-4", "x", "1.0", "then", "5", "."]
        );
    }

    #[test]
    fn keeps_brackets_in_text_and_comments_out() {
        assert_eq!(words("f(\"a ) \\\" b\") # ) ]\n{}"), ["f", "(", "\"a ) \\\" b\"", ")", "{", "}"]);
        assert_eq!(scan("a # b\nc").comments, [(2, 5)]);
    }

    #[test]
    fn ends_in_text_escape_and_foreign_letters() {
        assert_eq!(words("\"abc\\"), ["\"abc\\"]);
        assert_eq!(words("\u{d7} é"), ["\u{d7}", "é"]);
    }
}
