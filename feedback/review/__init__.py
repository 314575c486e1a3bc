"""The second opinion: what is agreed, which photo comes next, statistics, exports."""
