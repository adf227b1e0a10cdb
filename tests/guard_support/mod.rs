//! What the guard's tests share: a scanner with everything it needs.

use std::sync::Arc;

use stenograph::guard::{Engine, GuardFault, RuleSet, Scanner};
use stenograph::limits::Limits;
use stenograph::types::{Direction, Finding};
use stenograph::wire::json::Scratch;
use stenograph::wire::mcp;

pub fn builtin() -> Arc<RuleSet> {
    RuleSet::builtin().expect("the built-in pack compiles")
}

/// A scanner with everything it needs.
pub struct Judge {
    pub scanner: Scanner,
    pub scratch: Scratch,
    pub limits: Limits,
}

impl Judge {
    pub fn new(rules: Arc<RuleSet>, engine: Engine) -> Judge {
        let limits = Limits::default();
        let scanner = Scanner::with_engine(rules, [3; 32], &limits, engine);
        Judge { scanner, scratch: Scratch::new(), limits }
    }

    /// With the engine in use, or the one that `STENOGRAPH_ENGINE` names.
    pub fn builtin() -> Judge {
        let engine = match std::env::var("STENOGRAPH_ENGINE").as_deref() {
            Err(_) | Ok("hyperscan") => Engine::Hyperscan,
            Ok("literals") => Engine::Literals,
            Ok("expressions") => Engine::Expressions,
            Ok(other) => panic!("STENOGRAPH_ENGINE={other}"),
        };
        Judge::new(builtin(), engine)
    }

    /// Whether it is a message at all.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub fn reads(&mut self, text: &str) -> bool {
        let direction = Direction::Response;
        mcp::read(text.as_bytes(), direction, &self.limits, &mut self.scratch).is_ok()
    }

    pub fn scan(&mut self, text: &[u8], direction: Direction) -> Vec<Finding> {
        self.try_scan(text, direction).expect("within bounds")
    }

    pub fn try_scan(
        &mut self,
        text: &[u8],
        direction: Direction,
    ) -> Result<Vec<Finding>, GuardFault> {
        self.scanner.scan(text, direction, &mut self.scratch, &self.limits)
    }
}
