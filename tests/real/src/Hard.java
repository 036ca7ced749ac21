import java.util.*;import java.util.concurrent.*;import java.util.concurrent.atomic.*;import java.nio.*;import java.nio.file.*;import java.nio.channels.*;import java.net.*;
public class Hard{ static volatile int v; static int deep(int n){return n==0?0:1+deep(n-1);}
 static int so(int n){return so(n+1)+1;}
 public static void main(String[] a)throws Exception{
  AtomicLong c=new AtomicLong();Thread[] t=new Thread[6];
  for(int i=0;i<6;i++){t[i]=new Thread(()->{for(int j=0;j<200000;j++){c.incrementAndGet();synchronized(Hard.class){v++;}}});t[i].start();}
  for(Thread x:t)x.join();System.out.println("atomic "+c+" sync "+v);
  int n=0;for(int i=0;i<5;i++)try{so(0);}catch(StackOverflowError e){n++;}System.out.println("so "+n);
  try{List<byte[]> l=new ArrayList<>();while(true)l.add(new byte[1<<24]);}catch(OutOfMemoryError e){System.out.println("oom");}
  int[] arr=new int[10];int oob=0,div=0;for(int i=0;i<200000;i++){try{arr[i%20]++;}catch(ArrayIndexOutOfBoundsException e){oob++;}try{div+=1/(i%3);}catch(ArithmeticException e){div+=2;}}
  System.out.println("oob "+oob+" div "+div);
  Path p=Paths.get("mm");try(FileChannel f=FileChannel.open(p,StandardOpenOption.CREATE,StandardOpenOption.READ,StandardOpenOption.WRITE)){MappedByteBuffer b=f.map(FileChannel.MapMode.READ_WRITE,0,1<<20);for(int i=0;i<1<<18;i++)b.putInt(i*4,i);long s=0;for(int i=0;i<1<<18;i++)s+=b.getInt(i*4);System.out.println("mmap "+s);}
  ServerSocket ss=new ServerSocket(0);new Thread(()->{try(Socket s=ss.accept()){s.getOutputStream().write("net\n".getBytes());}catch(Exception e){}}).start();
  try(Socket s=new Socket("127.0.0.1",ss.getLocalPort())){System.out.println(new Scanner(s.getInputStream()).nextLine());}
  long b=System.nanoTime();CompletableFuture.allOf(CompletableFuture.runAsync(()->{try{Thread.sleep(20);}catch(Exception e){}}),CompletableFuture.runAsync(()->{})).get();System.out.println("fut "+(System.nanoTime()-b>15000000));
  double[] x=new double[1000];for(int k=0;k<2000;k++)for(int i=0;i<1000;i++)x[i]=Math.fma(x[i],0.5,i);System.out.println("fma "+x[999]);
  Thread w=new Thread(()->{while(!Thread.interrupted());});w.start();Thread.sleep(30);w.interrupt();w.join();System.out.println("int");
  Runtime.getRuntime().addShutdownHook(new Thread(()->System.out.println("hook")));System.exit(4);
 }}
