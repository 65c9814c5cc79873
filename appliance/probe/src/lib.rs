//! Looks at the ports of a client, and finds out whether it is a proxy. Knows neither gates nor policy.
