//! Starts whole topologies as real processes, runs scenarios and faults, and writes the report.
