//! Two sockets made one: bytes pass both ways, ends and resets too. Knows nothing of policy.
