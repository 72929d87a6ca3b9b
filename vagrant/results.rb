# A provisioner that brings the results of the tests to the host, and fails if they do.
module KproxyNat
  class Results < Vagrant.plugin("2")
    name "kproxy-nat results"
    provisioner("results") { Fetch }
  end

  class Fetch < Vagrant.plugin("2", :provisioner)
    FROM = "/var/tmp/kproxy-nat-results"
    ARCHIVE = "#{FROM}.tar"

    class TestsFailed < Vagrant::Errors::VagrantError
      error_message "tests failed in the VM: see vagrant/results/"
    end

    def provision
      to = ENV.fetch("KPROXY_NAT_RESULTS", File.join(__dir__, "results"))
      FileUtils.rm_rf(to)
      FileUtils.mkdir_p(to)
      # One file, as some communicators do not download folders.
      @machine.communicate.execute("tar -C #{FROM} -cf #{ARCHIVE} .")
      @machine.communicate.download(ARCHIVE, "#{to}.tar")
      system("tar", "-C", to, "-xf", "#{to}.tar", exception: true)
      FileUtils.rm("#{to}.tar")
      @machine.ui.info(File.read(File.join(to, "summary.md")))
      raise TestsFailed unless File.read(File.join(to, "status")).to_i.zero?
    end
  end
end
