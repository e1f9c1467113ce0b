"""The data contract and the search for doubtful annotations."""
