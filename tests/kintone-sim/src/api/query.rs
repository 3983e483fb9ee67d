//! The query language, as much of it as integrations use: comparisons, `in`, `like`, `and`, `or`, brackets, `order by`, `limit`,
//! `offset`.

use crate::app::AppSettings;
use crate::error::ApiError;

const LIMIT_MAX: u64 = 500;
const LIMIT_DEFAULT: u64 = 100;
const OFFSET_MAX: u64 = 10_000;
/// Deepest nesting of brackets that is understood.
const DEPTH_MAX: usize = 50;

/// A query that has been understood.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) condition: Option<Condition>,
    pub(super) order: Vec<(String, Direction)>,
    pub(super) limit: u64,
    pub(super) offset: u64,
}

#[derive(Debug)]
pub(super) enum Condition {
    Compare(String, Operator, Vec<String>),
    Both(Box<Self>, Box<Self>),
    Either(Box<Self>, Box<Self>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
    Like,
    NotLike,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Ascending,
    Descending,
}

impl Query {
    /// # Errors
    /// CB_VA01 for a query that is not understood, GAIA_QU01 and GAIA_QU02 for too large a limit or offset.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut parser = Parser {
            tokens: tokens(text)?,
            place: 0,
        };
        let mut query = Self {
            condition: None,
            order: Vec::new(),
            limit: LIMIT_DEFAULT,
            offset: 0,
        };
        if !parser.at_tail() {
            query.condition = Some(parser.either(0)?);
        }
        if parser.take_word("order") {
            parser.need_word("by")?;
            query.order = parser.order()?;
        }
        if parser.take_word("limit") {
            query.limit = parser.number()?;
        }
        if parser.take_word("offset") {
            query.offset = parser.number()?;
        }
        if parser.place < parser.tokens.len() {
            return Err(not_a_query());
        }
        if query.limit > LIMIT_MAX {
            return Err(too_much("GAIA_QU01", "limit", "500"));
        }
        if query.offset > OFFSET_MAX {
            return Err(too_much("GAIA_QU02", "offset", "10,000"));
        }
        Ok(query)
    }

    /// # Errors
    /// GAIA_IQ11 for a field that the app does not have, GAIA_IQ03 for an operator that the field's type does not know.
    pub(super) fn check(&self, app: &AppSettings) -> Result<(), ApiError> {
        for (field, _) in &self.order {
            kind(app, field)?;
        }
        self.condition
            .as_ref()
            .map_or(Ok(()), |condition| check(condition, app))
    }
}

fn check(condition: &Condition, app: &AppSettings) -> Result<(), ApiError> {
    let (field, operator) = match condition {
        Condition::Compare(field, operator, _) => (field, operator),
        Condition::Both(left, right) | Condition::Either(left, right) => {
            check(left, app)?;
            return check(right, app);
        }
    };
    let kind = kind(app, field)?;
    let ordered = matches!(
        operator,
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual
    );
    let alike = matches!(operator, Operator::Like | Operator::NotLike);
    let allowed = match kind {
        "SINGLE_LINE_TEXT" | "LINK" => !ordered,
        "NUMBER" | "__ID__" | "RECORD_NUMBER" | "__REVISION__" => !alike,
        "MULTI_LINE_TEXT" | "RICH_TEXT" | "FILE" => alike,
        _ => true,
    };
    if allowed {
        return Ok(());
    }
    Err(ApiError::new(
        400,
        "GAIA_IQ03",
        format!("The operator in the query cannot be used with the field \"{field}\" ({kind})."),
        format!("queryで指定した演算子は、フィールド「{field}」（{kind}）には使用できません。"),
    ))
}

fn kind<'a>(app: &'a AppSettings, field: &str) -> Result<&'a str, ApiError> {
    match field {
        "$id" => return Ok("__ID__"),
        "$revision" => return Ok("__REVISION__"),
        super::records::RECORD_NUMBER => return Ok("RECORD_NUMBER"),
        _ => {}
    }
    app.fields
        .iter()
        .find(|have| have.code == field)
        .map(|have| have.kind.as_str())
        .ok_or_else(|| {
            ApiError::new(
                400,
                "GAIA_IQ11",
                format!("Specified field ({field}) not found."),
                format!("指定されたフィールド（{field}）が見つかりません。"),
            )
        })
}

fn too_much(code: &'static str, what: &str, most: &str) -> ApiError {
    ApiError::new(
        400,
        code,
        format!("{what} must be {most} or less."),
        format!("{what} には {most} 以下の値を指定してください。"),
    )
}

fn not_a_query() -> ApiError {
    ApiError::invalid(
        "query",
        "The query is not valid.",
        "クエリ記法が間違っています。",
    )
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(&'static str),
}

fn tokens(text: &str) -> Result<Vec<Token>, ApiError> {
    const SIGNS: [&str; 9] = ["!=", ">=", "<=", "=", ">", "<", "(", ")", ","];
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else if first == '"' {
            let (value, after) = quoted(&rest[1..])?;
            tokens.push(Token::Text(value));
            rest = after;
        } else {
            let end = rest
                .find(|c: char| c.is_whitespace() || "\"=!<>(),".contains(c))
                .unwrap_or(rest.len());
            if end == 0 {
                return Err(not_a_query());
            }
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

/// The text up to the closing quote, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), ApiError> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((place, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[place + 1..])),
            '\\' => match chars.next() {
                Some((_, 't')) => value.push('\t'),
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped)) => value.push(escaped),
                None => return Err(not_a_query()),
            },
            c if c.is_control() => return Err(not_a_query()),
            c => value.push(c),
        }
    }
    Err(not_a_query())
}

struct Parser {
    tokens: Vec<Token>,
    place: usize,
}

impl Parser {
    fn either(&mut self, depth: usize) -> Result<Condition, ApiError> {
        let mut left = self.both(depth)?;
        while self.take_word("or") {
            left = Condition::Either(Box::new(left), Box::new(self.both(depth)?));
        }
        Ok(left)
    }

    fn both(&mut self, depth: usize) -> Result<Condition, ApiError> {
        let mut left = self.single(depth)?;
        while self.take_word("and") {
            left = Condition::Both(Box::new(left), Box::new(self.single(depth)?));
        }
        Ok(left)
    }

    fn single(&mut self, depth: usize) -> Result<Condition, ApiError> {
        if self.take_sign("(") {
            if depth == DEPTH_MAX {
                return Err(not_a_query());
            }
            let inner = self.either(depth + 1)?;
            self.need_sign(")")?;
            return Ok(inner);
        }
        let Some(Token::Word(field)) = self.next() else {
            return Err(not_a_query());
        };
        let operator = self.operator()?;
        let values = if matches!(operator, Operator::In | Operator::NotIn) {
            self.list()?
        } else {
            vec![self.value()?]
        };
        Ok(Condition::Compare(field, operator, values))
    }

    fn operator(&mut self) -> Result<Operator, ApiError> {
        if self.take_word("not") {
            return match self.next() {
                Some(Token::Word(word)) if word == "in" => Ok(Operator::NotIn),
                Some(Token::Word(word)) if word == "like" => Ok(Operator::NotLike),
                _ => Err(not_a_query()),
            };
        }
        match self.next() {
            Some(Token::Sign("=")) => Ok(Operator::Equal),
            Some(Token::Sign("!=")) => Ok(Operator::NotEqual),
            Some(Token::Sign("<")) => Ok(Operator::Less),
            Some(Token::Sign("<=")) => Ok(Operator::LessOrEqual),
            Some(Token::Sign(">")) => Ok(Operator::Greater),
            Some(Token::Sign(">=")) => Ok(Operator::GreaterOrEqual),
            Some(Token::Word(word)) if word == "in" => Ok(Operator::In),
            Some(Token::Word(word)) if word == "like" => Ok(Operator::Like),
            _ => Err(not_a_query()),
        }
    }

    fn list(&mut self) -> Result<Vec<String>, ApiError> {
        self.need_sign("(")?;
        let mut values = vec![self.value()?];
        while self.take_sign(",") {
            values.push(self.value()?);
        }
        self.need_sign(")")?;
        Ok(values)
    }

    fn value(&mut self) -> Result<String, ApiError> {
        match self.next() {
            Some(Token::Text(text) | Token::Word(text)) => Ok(text),
            Some(Token::Sign(_)) | None => Err(not_a_query()),
        }
    }

    fn order(&mut self) -> Result<Vec<(String, Direction)>, ApiError> {
        let mut order = Vec::new();
        loop {
            let Some(Token::Word(field)) = self.next() else {
                return Err(not_a_query());
            };
            let direction = if self.take_word("asc") {
                Direction::Ascending
            } else {
                // kintone's own default is descending.
                self.take_word("desc");
                Direction::Descending
            };
            order.push((field, direction));
            if !self.take_sign(",") {
                return Ok(order);
            }
        }
    }

    fn number(&mut self) -> Result<u64, ApiError> {
        match self.next() {
            Some(Token::Word(word)) => word.parse().map_err(|_| not_a_query()),
            Some(Token::Text(_) | Token::Sign(_)) | None => Err(not_a_query()),
        }
    }

    fn at_tail(&self) -> bool {
        match self.tokens.get(self.place) {
            None => true,
            // A field may be called `limit` too; then an operator follows.
            Some(Token::Word(word)) => {
                matches!(word.as_str(), "order" | "limit" | "offset")
                    && matches!(self.tokens.get(self.place + 1), Some(Token::Word(_)))
            }
            Some(Token::Text(_) | Token::Sign(_)) => false,
        }
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.place).cloned();
        self.place += 1;
        token
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.tokens.get(self.place), Some(Token::Word(have)) if have == word);
        self.place += usize::from(found);
        found
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.tokens.get(self.place), Some(Token::Sign(have)) if *have == sign);
        self.place += usize::from(found);
        found
    }

    fn need_word(&mut self, word: &str) -> Result<(), ApiError> {
        if self.take_word(word) {
            Ok(())
        } else {
            Err(not_a_query())
        }
    }

    fn need_sign(&mut self, sign: &str) -> Result<(), ApiError> {
        if self.take_sign(sign) {
            Ok(())
        } else {
            Err(not_a_query())
        }
    }
}
