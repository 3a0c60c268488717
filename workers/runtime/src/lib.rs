//! What every worker shares: dispatch, context, isolation, drain, scaling
