module localmodel/bench

go 1.24
