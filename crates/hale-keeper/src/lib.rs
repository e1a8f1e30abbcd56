//! The small parent of all replicas: spawns, captures output, outlives the agent, decides nothing
