for i in $(seq 20); do cat > f$i.cpp <<X
#include <vector>
#include <string>
#include <map>
#include <algorithm>
int f$i(int n){ std::map<std::string,int> m; for(int i=0;i<n;i++) m[std::to_string(i%7)]+=i; std::vector<int> v; for(auto&p:m) v.push_back(p.second); std::sort(v.begin(),v.end()); return v.back(); }
X
done
(for i in $(seq 20); do echo "int f$i(int);"; done; echo '#include <cstdio>'; echo 'int main(){int s=0;'; for i in $(seq 20); do echo "s+=f$i($i*10);"; done; echo 'printf("%d\n",s);}') > main.cpp
cat > CMakeLists.txt <<X
cmake_minimum_required(VERSION 3.10)
project(p CXX)
file(GLOB S *.cpp)
list(FILTER S EXCLUDE REGEX build)
add_executable(p \${S})
X
