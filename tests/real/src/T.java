import java.util.*;import java.util.concurrent.*;import java.util.stream.*;
public class T{ static int fib(int n){return n<2?n:fib(n-1)+fib(n-2);}
 static Object npe=null;
 public static void main(String[] a)throws Exception{
  System.out.println("fib "+fib(32));
  ExecutorService ex=Executors.newFixedThreadPool(4);
  List<Future<Long>> fs=new ArrayList<>();
  for(int i=0;i<8;i++){final int k=i;fs.add(ex.submit(()->{long s=0;for(int j=0;j<3000000;j++)s+=(j^k)%7;return s;}));}
  long t=0;for(Future<Long> f:fs)t+=f.get();ex.shutdown();
  System.out.println("sum "+t);
  int n=0;for(int i=0;i<20000;i++){try{ if(i%100==0) ((String)npe).length(); }catch(NullPointerException e){n++;}}
  System.out.println("npe "+n);
  List<byte[]> g=new ArrayList<>();for(int i=0;i<20000;i++){g.add(new byte[10000]);if(g.size()>100)g.clear();}
  System.out.println("gc ok "+IntStream.range(0,100000).parallel().filter(x->x%3==0).count());
  Map<String,Integer> m=new ConcurrentHashMap<>();IntStream.range(0,50000).parallel().forEach(i->m.merge("k"+i%17,1,Integer::sum));
  System.out.println("map "+m.values().stream().mapToInt(x->x).sum());
  System.out.println(String.format("%.5f",Math.sin(1)*Math.pow(2,0.5)));
  Process p=new ProcessBuilder("echo","child").inheritIO().start();p.waitFor();
 }}
